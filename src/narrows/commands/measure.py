"""Measuring a trained model on data that it was not trained on."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from narrows.atomic import whole_file
from narrows.commands.made import AT_MOST, made_from, require_distances
from narrows.commands.source import open_run, open_run_data, placed, what_changed
from narrows.data import Data, Examples
from narrows.errors import NarrowsError
from narrows.evaluation import measure
from narrows.migrations import FORMATS
from narrows.modalities import find_modality
from narrows.modality import Modality
from narrows.models import Autoencoder
from narrows.pretrained import load
from narrows.progress import Progress, hidden
from narrows.report.run import report_run

__all__ = ["Evaluation", "evaluate"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """Figures, and the data that they were measured on.

    Args:
        figures: the figures by name.
        units: units of the modality's own figures.
        split: the split, or `all` for the whole source.
        source: the source; None for the run's own data.
        unit: plural noun for examples.
        examples: number of examples measured.
        total: number of examples in the split.
        changed: how the run's data differ from those used in training; None if they do not.
        path: the JSON file with the figures.
        distances: text about the distances of reconstructions and samples; None if they were not measured.
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
    distances: str | None = None

    @property
    def measured_on(self) -> str:
        """The measured examples in words, such as `100 of 5,000 images, the test split`."""
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
    distances: bool = False,
    progress: Progress = hidden,
) -> Evaluation:
    """Measure the run's model and write the figures as JSON into its folder; for its own data, also update its report.

    Args:
        folder: the run folder, or its id on the hub.
        source: data to use instead of the run's own.
        split: the split to measure; None means the test split of the run's own data, or all of a `source`.
        samples: S of the importance-weighted bound; None uses the default of the kind of data.
        limit: measure a fixed random subset of this many examples.
        overrides: overrides of data settings, such as `--data.image_column=picture`.
        options: options of the kind of data.
        distances: also measure the distances of reconstructions and samples from the examples.
        progress: shows the progress.

    Raises:
        NarrowsError: if an option does not fit the model, the split is empty, or distances are asked for that these
            data do not have.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run = open_run(folder)
    model = load(run.path, device)
    modality = find_modality(model.spec.modality)
    if distances:
        require_distances(modality)
    if distances and source is not None:
        raise NarrowsError(
            "--distances are measured in features learned from the run's own training data: leave --data out"
        )
    chosen = modality.accept("evaluate", options or {}, folder)
    whole = [] if source is None else ["--data.validation=0", "--data.test=0"]
    data = open_run_data(run, model, source, [*whole, *overrides], progress)
    changed = what_changed(run, data) if source is None else None
    split = split or ("test" if source is None else "all")
    measurable = _part(data, split, source)
    part = measurable if limit is None else measurable.subset(limit)
    own = modality.evaluate(run, model, data, part, split, source, progress, **chosen)
    _warn_of_classes(model, data)
    latents = modality.samples if samples is None else samples
    with progress("evaluate", len(part), modality.unit) as meter:
        figures_of = partial(modality.figures, spec=model.spec) if modality.has_figures else None
        measured = measure(model, part.numbered(model.classes), latents, figures_of, advance=meter.advance)
    # Figures with a qualified name ("x, y") do not describe this split alone, and are stored elsewhere.
    figures = measured.figures | modality.in_own_units(measured.figures, part)
    figures |= {name: value for name, value in own.items() if ", " not in name}
    told = None
    if distances:
        away, told = _distances(modality, model, data, part, progress)
        figures |= away
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
        told,
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
        "options": chosen,
        "distances": told,
        "figures": figures,
        "layer_rates": layers,
    }
    with whole_file(path) as aside:
        aside.write_text(json.dumps(content, indent=1, default=str))  # an option may be a path
    if source is None:
        report_run(run, data, device, progress)
    return done


def _part(data: Data, split: str, source: str | None) -> Examples:
    """Return the examples of a split.

    Raises:
        NarrowsError: if there are no examples, or they cannot be measured.
    """
    part = data.split(split)
    if not len(part):
        where = "the run's data" if source is None else source
        raise NarrowsError(f"--split {split}: {where} has no {split} split of its own; leave --split out for all of it")
    return part


def _distances(
    modality: Modality, model: Autoencoder, data: Data, part: Examples, progress: Progress
) -> tuple[dict[str, float], str]:
    """Return the distances of reconstructions and samples from examples, and a text about them.

    Raises:
        NarrowsError: if there are too few examples, or no classes.
    """
    real = part.subset(min(len(part), AT_MOST))
    found, told = modality.distances(data, real, {0.0: made_from(model, real, progress)}, progress)
    if not found[0.0]:
        raise NarrowsError(f"--distances: {told}")
    return found[0.0], told


def _warn_of_classes(model: Autoencoder, data: Data) -> None:
    """Warn if figures of a class-conditional prior are left out, and why."""
    if model.prior is None or not model.prior.classes or data.classes == model.classes or model.variable:
        return
    unknown = sorted(set(data.classes) - set(model.classes))
    if not data.classes:
        logger.warning("figures of the prior, which is conditioned on classes, are left out: the examples have none")
    elif unknown:
        logger.warning(
            "figures of the prior, which is conditioned on classes, are left out: the model does not know %s",
            ", ".join(unknown),
        )


def _name_of(source: str) -> str:
    """Return a name for the figures of a source: its last part, plus a hash that makes it unique."""
    tail = re.sub(r"[^\w.-]+", "-", Path(source).name or "source")
    return f"{tail}-{hashlib.sha256(placed(source).encode()).hexdigest()[:8]}"
