"""What the report of a run of sound shows besides: other voices, a control, and the phonemes that codes stand for."""

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
"""Clips reconstructed, clips converted, and the voices each is converted to."""


def spoken(model: Autoencoder, clips: Examples, progress: Progress) -> Iterator[Section]:
    """Yield clips with their reconstructions, and the same words in other voices."""
    assert isinstance(clips, Clips)
    shown = [index for index in range(len(clips)) if clips.labels[index] >= 0][:SHOWN]
    if not shown:
        return
    rate = int(model.spec.rate or 0)
    own = [int(clips.labels[index]) for index in shown]
    device = next(model.parameters()).device
    codes = model.encode_all([clips[index].to(device) for index in shown])
    # Those who follow each speaker, round and round.
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
        "Clips of the validation split, never trained on; what is decoded from their codes; and from their codes in a "
        "random order of time. The log-mel distance to the clip, over these alone, is "
        f"{distances[0]:.1f} dB, and {distances[1]:.1f} dB of the codes in random order."
    )
    yield Section("Reconstructions", text, [Sounds("Each clip, twice decoded.", rows, rate)])
    if len(model.classes) > 1:
        converted = [
            [Clip(f"{model.classes[speaker]}: the clip", original)]
            + [Clip(f"as {model.classes[other]}", next(made)[: len(original)]) for other in voices]
            for speaker, original, voices in zip(own, originals, others, strict=False)
        ]
        text = "The codes of a clip, decoded for another speaker: the words stay, the voice is to change."
        yield Section("Voices converted", text, [Sounds("`narrows convert-voice`", converted, rate)])


def phonemes_section(run: RunFolder) -> Iterator[Section]:
    """Yield what `narrows evaluate --phonemes` found on the run's own data, if that was of the model as it is now."""
    path = phonemes_file(run)
    if not path.exists():
        return
    found = read_json(path)
    if found.get("model") != fingerprint(run.path):
        text = (
            "They were measured of an earlier model or by an earlier version: run `narrows evaluate --phonemes` again."
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
        f"Each code stands for its most frequent phoneme of the training clips: {found['training']['frames']:,} frames "
        f"of {found['training']['clips']:,} clips. Accuracy is the share of frames of other clips whose code stands "
        "for their phoneme; beside it, what codes that know nothing would reach: always the most frequent phoneme, or "
        "the same codes in random order. So is the mutual information: what is left of it in random order is bias."
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
