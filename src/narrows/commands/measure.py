"""Measure a trained model on data it was not trained on."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from narrows.atomic import whole_file
from narrows.commands.source import open_run, open_run_data, placed, what_changed
from narrows.data import Data, Examples
from narrows.errors import NarrowsError
from narrows.evaluation import measure
from narrows.migrations import FORMATS
from narrows.modalities import find_modality
from narrows.models import Autoencoder
from narrows.pretrained import load
from narrows.progress import Progress, hidden
from narrows.report.run import report_run

__all__ = ["Evaluation", "evaluate"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """Figures, and what they were measured on.

    Args:
        figures: by name.
        units: the units of figures that the kind of data has of its own.
        split: the split, or `all`: the whole source.
        source: the source; None for the run's own data.
        unit: what an example is called, in the plural.
        examples: how many were measured.
        total: how many the split has.
        changed: how the run's data differ from those it was trained on; None if they do not.
        path: the JSON file they were written to.
    """

    figures: dict[str, float]
    units: Mapping[str, str]
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
    overrides: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    progress: Progress = hidden,
) -> Evaluation:
    """Measure the run's model and write the figures as JSON into its folder; on its own data, also renew its report.

    Args:
        folder: of the run, or its id on the hub.
        source: other data than the run's own.
        split: the split to measure; None is the test split of the run's own data, and all of a `source`.
        samples: S of the importance-weighted bound; None is what suits the kind of data.
        limit: measure a fixed random subset of so many examples.
        overrides: of settings of the data, such as `--data.image_column=picture`.
        options: options of the kind of data.
        progress: shows how far the work is.

    Raises:
        NarrowsError: if an option does not suit the model, or the split is empty.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run = open_run(folder)
    model = load(run.path, device)
    modality = find_modality(model.spec.modality)
    chosen = modality.accept("evaluate", options or {}, folder)
    whole = [] if source is None else ["--data.validation=0", "--data.test=0"]
    data = open_run_data(run, model, source, [*whole, *overrides], progress)
    changed = what_changed(run, data) if source is None else None
    split = split or ("test" if source is None else "all")
    measurable = _part(data, split, source)
    part = measurable if limit is None else measurable.subset(limit)
    own = modality.evaluate(run, model, data, part, source, progress, **chosen)
    _warn_of_classes(model, data)
    latents = modality.samples if samples is None else samples
    with progress("evaluate", len(part), modality.unit) as meter:
        figures_of = modality.figures if modality.has_figures else None
        measured = measure(model, part.numbered(model.classes), latents, figures_of, advance=meter.advance)
    # Figures whose names say what they are of are not of this split alone, and are kept where they come from.
    figures = measured.figures | {name: value for name, value in own.items() if ", " not in name}
    layers = {f"rate of {group} layer {number}, nats": rate for (group, number), rate in measured.layer_rates.items()}
    path = run.evaluation if source is None else run.evaluation.with_name(f"evaluation-{_name_of(source)}.json")
    done = Evaluation(
        figures | layers | own,
        modality.units,
        split,
        source,
        modality.unit,
        len(part),
        len(measurable),
        changed,
        path,
    )
    content = {
        "format": FORMATS["evaluation"],
        "split": split,
        "source": source,
        "unit": modality.unit,
        "examples": len(part),
        "of": len(measurable),
        "data_changed": changed,
        "samples": latents,
        "figures": figures,
        "layer_rates": layers,
    }
    with whole_file(path) as aside:
        aside.write_text(json.dumps(content, indent=1))
    if source is None:
        report_run(run, data, device, progress)
    return done


def _part(data: Data, split: str, source: str | None) -> Examples:
    """The examples of a split.

    Raises:
        NarrowsError: if there are none, or they cannot be measured.
    """
    part = data.split(split)
    if not len(part):
        where = "the run's data" if source is None else source
        raise NarrowsError(f"--split {split}: {where} has no {split} split of its own; leave --split out for all of it")
    return part


def _warn_of_classes(model: Autoencoder, data: Data) -> None:
    """Say why figures of a prior that is given the class of each example are left out, where they are."""
    if model.prior is None or not model.prior.classes or data.classes == model.classes or model.variable:
        return
    unknown = sorted(set(data.classes) - set(model.classes))
    if not data.classes:
        logger.warning("the examples have no classes: figures of the prior, which is given the class, are left out")
    elif unknown:
        logger.warning(
            "the model knows no classes %s: figures of the prior, which is given the class, are left out",
            ", ".join(unknown),
        )


def _name_of(source: str) -> str:
    """A name for the figures on a source: its last part, and what tells it from another of that name."""
    tail = re.sub(r"[^\w.-]+", "-", Path(source).name or "source")
    return f"{tail}-{hashlib.sha256(placed(source).encode()).hexdigest()[:8]}"
