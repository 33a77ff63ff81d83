"""Measure a trained model on data it was not trained on."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from narrows.atomic import whole_file
from narrows.commands.modality import modality_of
from narrows.commands.source import open_run, open_run_data, placed, what_changed
from narrows.errors import NarrowsError
from narrows.modalities.images.images import ImageData, Images
from narrows.modalities.sound.clips import Clips
from narrows.modalities.sound.dataset import SoundData
from narrows.modalities.sound.measure import measure_reconstructions
from narrows.modalities.sound.phonemes import learn_phonemes, measure_foreign_phonemes
from narrows.models import Autoencoder, SoundAutoencoder
from narrows.pretrained import load
from narrows.progress import progress

__all__ = ["Evaluation", "evaluate"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """Figures, and what they were measured on.

    Args:
        figures: by name.
        split: the split, or `all`: the whole source.
        source: the source; None for the run's own data.
        unit: what an example is called, in the plural.
        examples: how many were measured.
        total: how many the split has.
        changed: how the run's data differ from those it was trained on; None if they do not.
        path: the JSON file they were written to.
    """

    figures: dict[str, float]
    split: str
    source: str | None
    unit: str
    examples: int
    total: int
    changed: str | None
    path: Path

    @property
    def measured_on(self) -> str:
        """The examples in words, such as `100 of 5,000 images, the test split`."""
        part = "all" if self.split == "all" else f"the {self.split} split"
        of = "of the run's own data" if self.source is None else f"of {self.source}"
        return f"{self.examples:,} of {self.total:,} {self.unit}, {part} {of}"


def evaluate(
    folder: str,
    source: str | None = None,
    split: str | None = None,
    samples: int | None = None,
    limit: int | None = None,
    phonemes: Path | None = None,
    reconstruct: int | None = None,
    overrides: Sequence[str] = (),
) -> Evaluation:
    """Measure the run's model and write the figures as JSON into its folder; on its own data, also renew its report.

    Args:
        folder: of the run, or its id on the hub.
        source: other data than the run's own.
        split: the split to measure; None is the test split of the run's own data, and all of a `source`.
        samples: S of the importance-weighted bound of images.
        limit: measure a fixed random subset of so many examples.
        phonemes: a table of phonemes, to measure how well the codes of sound tell them.
        reconstruct: decode so many clips too, and compare their spectra.
        overrides: of settings of the data, such as `--data.image_column=picture`.

    Raises:
        NarrowsError: if an option does not suit the model, or the split is empty.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run = open_run(folder)
    model = load(run.path, device)
    if not isinstance(model, SoundAutoencoder):
        for option, value in {"--phonemes": phonemes, "--reconstruct": reconstruct}.items():
            if value is not None:
                raise NarrowsError(f"{option} {value}: {folder} is not a run of sound")
    modality = modality_of(model)
    whole = [] if source is None else ["--data.validation=0", "--data.test=0"]
    data = open_run_data(run, model, source, [*whole, *overrides])
    changed = what_changed(run, data) if source is None else None
    split = split or ("test" if source is None else "all")
    measurable = _part(data, split, source)
    part = _labelled(measurable if limit is None else measurable.subset(limit), data, model)
    told: dict[str, float] = {}
    if phonemes is not None and isinstance(model, SoundAutoencoder) and isinstance(data, SoundData):
        if source is None:
            found = learn_phonemes(model, str(run.path), data, phonemes)
            found.write(run.phonemes)
        else:
            assert isinstance(part, Clips)
            found = measure_foreign_phonemes(model, str(run.path), part, phonemes)
        told = found.named_figures
    with progress("evaluate", len(part), modality.unit) as meter:
        measured = modality.measure(model, part, samples, meter.advance)
    figures = dict(measured.figures)
    if reconstruct is not None and isinstance(model, SoundAutoencoder) and isinstance(part, Clips):
        figures |= measure_reconstructions(model, part.subset(reconstruct))
    layers = {f"rate of {group} layer {number}, nats": rate for (group, number), rate in measured.layer_rates.items()}
    path = run.evaluation if source is None else run.evaluation.with_name(f"evaluation-{_name_of(source)}.json")
    done = Evaluation(figures | layers | told, split, source, modality.unit, len(part), len(measurable), changed, path)
    row = {"split": split, "source": source, modality.unit: len(part), "of": len(measurable), "data_changed": changed}
    with whole_file(path) as aside:
        content = {**row, **modality.measured_with(samples), "figures": figures, "layer_rates": layers}
        aside.write_text(json.dumps(content, indent=1))
    if source is None:
        modality.report(run, data, device)
    return done


def _part(data: ImageData | SoundData, split: str, source: str | None) -> Images | Clips:
    """The examples of a split.

    Raises:
        NarrowsError: if there are none, or they cannot be measured.
    """
    part: Any = getattr(data, split, None)
    if part is None:
        raise NarrowsError(f"--split {split}: images have no voices; choose train, validation, test or all")
    if not isinstance(part, Images | Clips):
        raise NarrowsError(
            f"--split {split}: a stream is measured on the examples held out of it; choose validation or test, or "
            "fetch the data with --data.streaming=false"
        )
    if not len(part):
        where = "the run's data" if source is None else source
        raise NarrowsError(f"--split {split}: {where} has no {split} split of its own; leave --split out for all of it")
    return part


def _labelled(part: Images | Clips, data: ImageData | SoundData, model: Autoencoder) -> Images | Clips:
    """The images with the model's numbers of their classes, by name; without labels where it does not know one."""
    if not isinstance(part, Images) or data.classes == model.classes:
        return part
    numbers = {name: number for number, name in enumerate(model.classes)}
    unknown = sorted(set(data.classes) - set(numbers))
    if model.prior is not None and model.prior.classes:
        if not data.classes:
            logger.warning("the images have no labels: figures of the prior, which is told the class, are left out")
        elif unknown:
            logger.warning(
                "the model knows no classes %s: figures of the prior, which is told the class, are left out",
                ", ".join(unknown),
            )
    if part.labels is None or unknown:
        return replace(part, labels=None)
    return replace(part, labels=np.array([numbers[name] for name in data.classes])[part.labels])


def _name_of(source: str) -> str:
    """A name for the figures on a source: its last part, and what tells it from another of that name."""
    tail = re.sub(r"[^\w.-]+", "-", Path(source).name or "source")
    return f"{tail}-{hashlib.sha256(placed(source).encode()).hexdigest()[:8]}"
