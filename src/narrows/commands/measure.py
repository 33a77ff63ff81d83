"""Measure a trained model on held-out data."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from narrows.atomic import whole_file
from narrows.commands.modality import modality_of
from narrows.commands.phonemes import measure_phonemes
from narrows.commands.source import open_run, open_run_data
from narrows.data import SoundData
from narrows.errors import NarrowsError
from narrows.evaluation import measure_reconstructions
from narrows.models import SoundAutoencoder
from narrows.pretrained import load
from narrows.progress import progress

__all__ = ["evaluate"]


def evaluate(
    folder: str,
    source: str | None,
    split: str,
    samples: int | None,
    limit: int | None,
    phonemes: Path | None = None,
    reconstruct: int | None = None,
) -> dict[str, float]:
    """Measure the run's model on a split of its data, or of `source`; on its own data, also renew its report.

    The importance-weighted bound of images takes `samples` latents of each. With the table `phonemes`, also tell how
    well the codes of sound tell phonemes; with `reconstruct`, decode the first clips, so many, and compare the spectra.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load(folder, device)
    if not isinstance(model, SoundAutoencoder):
        for option, value in {"--phonemes": phonemes, "--reconstruct": reconstruct}.items():
            if value is not None:
                raise NarrowsError(f"{option} {value}: {folder} is not a run of sound")
    run, modality = open_run(folder), modality_of(model)
    data = open_run_data(run, source)
    part = getattr(data, split, None)
    if part is None:
        raise NarrowsError(f"--split {split}: images have no voices; choose train, validation or test")
    part = part if limit is None else part.first(limit)
    with progress("evaluate", len(part), modality.unit) as meter:
        measured = modality.measure(model, part, samples, meter.advance)
    figures, told = dict(measured.figures), {}
    if isinstance(model, SoundAutoencoder) and isinstance(data, SoundData):
        if reconstruct is not None:
            figures |= measure_reconstructions(model, part.first(reconstruct))
        if phonemes is not None:
            found = measure_phonemes(model, data, phonemes)
            told = {f"{name}, {of}": value for of, row in found.figures.items() for name, value in row.items()}
            if source is None:
                found.write(run.phonemes)
    layers = {f"rate of {group} layer {number}, nats": rate for (group, number), rate in measured.layer_rates.items()}
    if source is None:
        row = {"split": split, modality.unit: len(part), **modality.measured_with(samples)}
        with whole_file(run.evaluation) as aside:
            aside.write_text(json.dumps({**row, "figures": figures, "layer_rates": layers}, indent=1))
        modality.report(run, data, device)
    return figures | layers | told
