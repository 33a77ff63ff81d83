"""Report sections for sound: reconstructions beside a control, converted voices, and the phonemes of codes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from narrows.data import Examples
from narrows.errors import NarrowsError
from narrows.evaluation.units import unit_of
from narrows.files import read_json
from narrows.modalities.sound.clips import Clips
from narrows.modalities.sound.evaluate import decode_sounds, in_random_order
from narrows.modalities.sound.mel import log_mel_distance
from narrows.modalities.sound.phoneme_picture import code_phoneme_map
from narrows.modalities.sound.phonemes import phonemes_file
from narrows.modalities.sound.player import Clip, Sounds
from narrows.modalities.sound.units import UNITS
from narrows.models import Autoencoder
from narrows.pretrained import fingerprint
from narrows.progress import Progress
from narrows.report.page import Block, Cell, Section, Table
from narrows.training.run import RunFolder

__all__ = ["phonemes_section", "spoken"]

SHOWN, CONVERTED, VOICES = 6, 3, 3
"""Numbers of clips reconstructed, clips converted, and voices that each is converted to."""


def spoken(model: Autoencoder, clips: Examples, progress: Progress) -> Iterator[Section]:
    """Yield a section with reconstructions of clips, and one with the clips converted to other voices."""
    assert isinstance(clips, Clips)
    shown = [index for index in range(len(clips)) if clips.labels[index] >= 0][:SHOWN]
    if not shown:
        return
    rate = int(model.spec.rate or 0)
    own = [int(clips.labels[index]) for index in shown]
    device = next(model.parameters()).device
    codes = model.encode_all([clips[index].to(device) for index in shown])
    # The speakers after each one, wrapping around.
    others = [
        [(speaker + step) % len(model.classes) for step in range(1, min(VOICES + 1, len(model.classes)))]
        for speaker in own[:CONVERTED]
    ]
    asked = [*zip(codes, own, strict=True), *zip(in_random_order(codes), own, strict=True)]
    asked += [(part, other) for part, voices in zip(codes, others, strict=False) for other in voices]
    made = iter(decode_sounds(model, [part for part, _ in asked], [speaker for _, speaker in asked], progress))
    originals = [clips.clip(index) for index in shown]
    kept = [next(made)[: len(original)] for original in originals]
    mixed = [next(made)[: len(original)] for original in originals]
    rows = [
        [Clip(f"{model.classes[speaker]}: the clip", original), Clip("its codes, decoded", again), Clip("shuffled", no)]
        for speaker, original, again, no in zip(own, originals, kept, mixed, strict=True)
    ]
    distances = np.array(
        [
            [log_mel_distance(original, other, rate) for other in (again, no)]
            for original, again, no in zip(originals, kept, mixed, strict=True)
        ]
    ).mean(0)
    text = (
        "Clips of the validation split, not used in training; their codes, decoded; and as a control, their codes in "
        "random order in time, decoded. The mean log-mel distance to these clips is "
        f"{distances[0]:.1f} dB, and {distances[1]:.1f} dB with the codes in random order."
    )
    yield Section("Reconstructions", text, [Sounds("Each clip and its two decodings.", rows, rate)])
    if len(model.classes) > 1:
        converted = [
            [Clip(f"{model.classes[speaker]}: the clip", original)]
            + [Clip(f"as {model.classes[other]}", next(made)[: len(original)]) for other in voices]
            for speaker, original, voices in zip(own, originals, others, strict=False)
        ]
        text = "The codes of a clip, decoded as other speakers: the voice should change, the words should not."
        yield Section("Voices converted", text, [Sounds("`narrows convert-voice`", converted, rate)])


def phonemes_section(run: RunFolder) -> Iterator[Section]:
    """Yield the results of `narrows evaluate --phonemes` on the run's own data, or a note if they are outdated."""
    path = phonemes_file(run)
    if not path.exists():
        return
    found = read_json(path)
    if found.get("model") != fingerprint(run.path):
        text = (
            "These were measured on an earlier model or by an earlier version: run `narrows evaluate --phonemes` again."
        )
        yield Section("Codes as phonemes", text)
        return
    try:
        yield _phonemes_section(found)
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, NarrowsError):
            raise
        raise NarrowsError(
            f"{path} is damaged ({error!r}): delete it, and run `narrows evaluate --phonemes` again"
        ) from error


def _phonemes_section(found: Mapping[str, Any]) -> Section:
    splits: Mapping[str, Mapping[str, float]] = found["figures"]
    names = list(dict.fromkeys(name for figures in splits.values() for name in figures))
    rows: list[list[Cell]] = [
        [name, unit_of(name, UNITS), *(figures.get(name) for figures in splits.values())] for name in names
    ]
    text = (
        f"Each code predicts its most frequent phoneme in the training clips: {found['training']['frames']:,} frames "
        f"of {found['training']['clips']:,} clips. Accuracy is the share of frames of other clips whose code predicts "
        "their phoneme. Two baselines use no information: always the most frequent phoneme, and the same codes in "
        "random order. The mutual information is also given for random order, where what remains of it is bias."
    )
    voices = list(dict.fromkeys(voice for own in found["voices"].values() for voice in own))
    by_voice: list[list[Cell]] = [[voice, *(found["voices"][split].get(voice) for split in splits)] for voice in voices]
    blocks: list[Block] = []
    if splits:
        blocks += [
            Table("`narrows evaluate --phonemes`", ["figure", "unit", *splits], rows),
            Table("Accuracy by voice.", ["voice", *splits], by_voice),
        ]
    blocks.append(code_phoneme_map(np.array(found["counts"]), found["phonemes"]))
    return Section("Codes as phonemes", text, blocks)
