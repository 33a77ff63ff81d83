"""Measure a trained model on held-out data."""

from __future__ import annotations

import json
from pathlib import Path

from narrows.atomic import whole_file
from narrows.commands.modality import modality_of
from narrows.commands.phonemes import measure_phonemes
from narrows.commands.source import open_run_data
from narrows.data import SoundData
from narrows.errors import NarrowsError
from narrows.evaluation import measure_reconstructions
from narrows.models import SoundAutoencoder
from narrows.pretrained import load
from narrows.progress import progress, sound_progress
from narrows.training.run import RunFolder

__all__ = ["evaluate"]


def evaluate(
    folder: str,
    source: str | None,
    split: str,
    samples: int,
    limit: int | None,
    phonemes: Path | None = None,
    reconstruct: int | None = None,
) -> dict[str, float]:
    """Measure the run's model on a split of its data, or of `source`; on its own data, also renew its report.

    The importance-weighted bound takes `samples` latents of each example. With the table `phonemes`, also tell how well
    the codes of sound tell phonemes; with `reconstruct`, decode the first clips, so many, and compare the spectra.
    """
    model = load(folder)
    run = RunFolder(folder)
    data = open_run_data(run, source)
    modality = modality_of(model)
    part = getattr(data, split)
    part = part if limit is None else part.first(limit)
    told: dict[str, float] = {}
    if phonemes is not None:
        if not isinstance(data, SoundData):
            raise NarrowsError(f"--phonemes {phonemes}: {folder} is not a run of sound")
        found = measure_phonemes(run, model, data, phonemes)
        told = {f"{name}, {of}": value for of, figures in found.items() for name, value in figures.items()}
    with progress("evaluate", len(part), modality.unit) as meter:
        measured = modality.measure(model, part, samples, meter.advance)
    if reconstruct is not None:
        if not isinstance(model, SoundAutoencoder):
            raise NarrowsError(f"--reconstruct {reconstruct}: {folder} is not a run of sound")
        clips = part.first(reconstruct)
        with sound_progress("decode", 2 * len(clips), int(clips.lengths.max()), model.sample_rate) as advance:
            measured.figures.update(measure_reconstructions(model, clips, advance))
    layers = {f"rate of {group} layer {number}, nats": rate for (group, number), rate in measured.layer_rates.items()}
    if source is None:
        with whole_file(run.evaluation) as aside:
            row = {"split": split, modality.unit: len(part), "samples": samples, "figures": measured.figures}
            aside.write_text(json.dumps(row | {"layer_rates": layers}, indent=1))
        modality.report(run, data)
    return measured.figures | layers | told
