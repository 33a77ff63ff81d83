"""The report of a run of sound: what it makes of clips, in their own voices and in others, and what its codes are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from narrows.errors import NarrowsError
from narrows.evaluation import Measurement
from narrows.evaluation.units import unit_of
from narrows.files import read_json
from narrows.modalities.sound.clips import Clips
from narrows.modalities.sound.dataset import SoundData
from narrows.modalities.sound.measure import decode_shown, in_random_order, measure_sound, speakers_of
from narrows.modalities.sound.mel import log_mel_distance
from narrows.modalities.sound.phoneme_picture import code_phoneme_map
from narrows.modalities.sound.player import Clip, Sounds
from narrows.models import SoundAutoencoder
from narrows.pretrained import fingerprint, load
from narrows.progress import sound_progress
from narrows.report.page import Block, Cell, Page, Section, Table, write_page
from narrows.report.sections import bits, codes_in_use, counted, training_and_settings
from narrows.training.run import RunFolder

__all__ = ["report_sound_run"]

MEASURED = 50
SHOWN, CONVERTED, VOICES = 6, 3, 3
"""Clips reconstructed, clips converted, and the voices each is converted to."""
SAMPLES = 6
NOTHING_HELD_OUT = "The validation split holds no clip, so that nothing is measured or reconstructed."


def report_sound_run(run: RunFolder, data: SoundData, device: str | torch.device = "cpu") -> None:
    """Write `report.html` of a run from its saved model on `device`, its logs, and held-out clips of `data`.

    Raises:
        NarrowsError: if the run's model is not of sound.
    """
    model = load(run.path, device)
    if not isinstance(model, SoundAutoencoder):
        raise NarrowsError(f"{run.path} holds no model of sound")
    validation = data.validation.subset(MEASURED)
    facts: dict[str, str] = {}
    if len(validation):
        measured = measure_sound(model, validation)
        facts = _facts(model, measured)
        measured_on = counted("validation", len(validation), len(data.validation))
        sections = [
            *_spoken(model, validation),
            *_samples(model),
            bits(run, model, measured, _bits_text(model, len(validation)), "samples", measured_on),
            *_phonemes(run),
            *codes_in_use(measured, f"On {len(validation)} validation clips."),
        ]
    else:
        sections = [Section("Validation", NOTHING_HELD_OUT), *_samples(model), *_phonemes(run)]
    sections += training_and_settings(run, model)
    seconds = data.train.lengths.sum() / data.sample_rate
    subtitle = (
        f"{len(data.train):,} training clips, {seconds / 60:,.0f} minutes at {data.sample_rate:,} Hz, "
        f"{len(model.classes)} speaker{'s' * (len(model.classes) > 1)}"
    )
    write_page(run.report, Page(run.path.resolve().name, subtitle, facts, sections))


def _spoken(model: SoundAutoencoder, clips: Clips) -> Iterator[Section]:
    """Clips with their reconstructions, and the same words in other voices."""
    speakers = speakers_of(model, clips)
    shown = [index for index in range(len(clips)) if speakers[index] >= 0][:SHOWN]
    if not shown:
        return
    own = [int(speakers[index]) for index in shown]
    device = next(model.parameters()).device
    codes = [model.encode(clips.clip(index).to(device).view(1, 1, -1))[0] for index in shown]
    # Those who follow each speaker, round and round.
    others = [
        [(speaker + step) % len(model.classes) for step in range(1, min(VOICES + 1, len(model.classes)))]
        for speaker in own[:CONVERTED]
    ]
    asked = [*zip(codes, own, strict=True), *zip(in_random_order(codes), own, strict=True)]
    asked += [(part, other) for part, voices in zip(codes, others, strict=False) for other in voices]
    made = iter(decode_shown(model, [part for part, _ in asked], [speaker for _, speaker in asked]))
    originals = [clips.clip(index) for index in shown]
    kept = [next(made)[: len(original)] for original in originals]
    mixed = [next(made)[: len(original)] for original in originals]
    rows = [
        [Clip(f"{model.classes[speaker]}: the clip", original), Clip("its codes, decoded", again), Clip("shuffled", no)]
        for speaker, original, again, no in zip(own, originals, kept, mixed, strict=True)
    ]
    distances = np.array(
        [
            [log_mel_distance(original, other, model.sample_rate) for other in (again, no)]
            for original, again, no in zip(originals, kept, mixed, strict=True)
        ]
    ).mean(0)
    text = (
        "Clips of the validation split, never trained on; what is decoded from their codes; and from their codes in a "
        "random order of time. The log-mel distance to the clip, over these alone, is "
        f"{distances[0]:.1f} dB, and {distances[1]:.1f} dB of the codes in random order."
    )
    yield Section("Reconstructions", text, [Sounds("Each clip, twice decoded.", rows, model.sample_rate)])
    if len(model.classes) > 1:
        converted = [
            [Clip(f"{model.classes[speaker]}: the clip", original)]
            + [Clip(f"as {model.classes[other]}", next(made)[: len(original)]) for other in voices]
            for speaker, original, voices in zip(own, originals, others, strict=False)
        ]
        text = "The codes of a clip, decoded for another speaker: the words stay, the voice is to change."
        yield Section("Voices converted", text, [Sounds("`narrows convert-voice`", converted, model.sample_rate)])


def _samples(model: SoundAutoencoder) -> Iterator[Section]:
    """Sounds from the prior; none of codes that have no learned one, for those drawn uniformly show nothing."""
    if model.lacks_prior:
        return
    speakers = torch.arange(SAMPLES) % len(model.classes)
    order = torch.Generator().manual_seed(0)
    with sound_progress("sample", SAMPLES, model.sampled, model.sample_rate) as advance:
        sounds = model.sample(SAMPLES, speakers, generator=order, progress=advance)
    named = [Clip(model.classes[speaker], sound[0]) for speaker, sound in zip(speakers, sounds, strict=True)]
    rows = [named[at : at + 3] for at in range(0, SAMPLES, 3)]
    seconds = model.sampled / model.sample_rate
    text = f"{seconds:.2f} s of latents drawn from the prior, then decoded; no clip is behind them."
    yield Section("Samples", text, [Sounds("Unconditional samples.", rows, model.sample_rate)])


def _phonemes(run: RunFolder) -> Iterator[Section]:
    """What `narrows evaluate --phonemes` found on the run's own data, if that was of the model as it is now."""
    if not run.phonemes.exists():
        return
    found = read_json(run.phonemes)
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
            f"{run.phonemes} is damaged ({error!r}): delete it, and run `narrows evaluate --phonemes` again"
        ) from error


def _phonemes_section(found: Mapping[str, Any]) -> Section:
    splits: Mapping[str, Mapping[str, float]] = found["figures"]
    names = list(dict.fromkeys(name for figures in splits.values() for name in figures))
    rows: list[list[Cell]] = [
        [name, unit_of(name), *(figures.get(name) for figures in splits.values())] for name in names
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


def _bits_text(model: SoundAutoencoder, clips: int) -> str:
    return (
        f"An upper bound on -log2 p(x|speaker) for each sample of {clips} validation clips: what the codes cost plus "
        f"what remains given them, under {type(model.likelihood).__name__} samples."
    )


def _facts(model: SoundAutoencoder, measured: Measurement) -> dict[str, str]:
    figures = measured.figures
    facts = {"-log2 p(x) is at most": f"{figures['bits_per_dim']:.3f} bits/sample"}
    if "perplexity" in figures:
        facts["codes"] = f"{figures['perplexity']:.0f} perplexity, of {model.codes.codebook_size}"
        facts["a second"] = f"{figures['bits_per_second']:.0f} bits, {model.sample_rate / model.hop:.0f} codes"
    return facts
