"""Sections common to the reports of all runs: bits, codebook use, training and settings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from narrows.evaluation import Measurement
from narrows.evaluation.units import unit_of
from narrows.files import read_text
from narrows.models import Autoencoder
from narrows.report.figures import bits_bar, codebook_use, learning_curves
from narrows.report.metrics import read_metrics
from narrows.report.page import Block, Cell, Section, Settings, Table
from narrows.training.run import RunFolder

__all__ = ["bits", "codes_in_use", "counted", "evaluated_on", "reconstructed", "training_and_settings"]


def counted(split: str, count: int, total: int | None) -> str:
    """Return a column head that names a split and how much of it was measured, such as "test, 100 of 5,000".

    Args:
        split: name of the split.
        count: number of examples measured.
        total: number of examples in the split; None if not recorded.
    """
    if total is None:
        return f"{split}, {count:,}"
    return f"{split}, all {total:,}" if count == total else f"{split}, {count:,} of {total:,}"


def reconstructed(model: Autoencoder) -> str:
    """Return in words what `model.versions` makes of examples, the end of a sentence."""
    if model.stages == 1 or not model.autoregressive:
        return "the mean of p(x|z) given their codes."
    spent = ""
    if model.discrete:
        codes = model.codes
        spent = f" of {math.prod(codes.grid) * codes.codebooks * math.log2(codes.codebook_size):.0f} bits"
    each = "each window" if model.variable else "each"
    return (
        f"their reconstructions by the first stage, then several draws from the latents{spent} of {each}: what the "
        "latents hold stays, and the rest differs."
    )


def evaluated_on(evaluated: Mapping[str, Any]) -> str:
    """Return what an `evaluation.json` is of: the split, how much of it, the source if not the run's own, options."""
    of = counted(evaluated["split"], evaluated["examples"], evaluated.get("of"))
    source = evaluated.get("source")
    options = [f"--{name.replace('_', '-')} {value}" for name, value in evaluated.get("options", {}).items()]
    return ", ".join([of, *([] if source is None else [source]), *options])


def bits(
    run: RunFolder,
    model: Autoencoder,
    measured: Measurement,
    text: str,
    unit: str,
    measured_on: str,
    units: Mapping[str, str],
) -> Section:
    """Return the section on rate and distortion, with all figures, their units, and those of `narrows evaluate`.

    Args:
        run: folder of the run.
        model: its model.
        measured: figures of the validation split.
        text: explanation of the bits.
        unit: the things that the figures are means over, such as "images".
        measured_on: the split measured and how much of it; see `counted`.
        units: units of the modality's own figures.
    """
    if model.lacks_prior:
        text += " No learned prior has been fitted yet; `narrows prior` fits one."
    figures = measured.figures
    fixed = "uniform prior" if model.discrete else "N(0, I) prior"
    if measured.layer_rates:
        fixed = "hierarchical prior"
    bars = {fixed: (figures["rate_bits_per_dim"], figures["distortion_bits_per_dim"])}
    if "prior_rate_bits_per_dim" in figures:
        rate = figures["prior_rate_bits_per_dim"]
        bars["learned prior"] = (rate, figures["prior_bits_per_dim"] - rate)
    columns, tested = ["figure", "unit", measured_on], {}
    if (evaluated := run.evaluated()) is not None:
        columns.append(evaluated_on(evaluated))
        tested = evaluated["figures"]
    caption = f"Means over the {unit}." + ("" if tested else " `narrows evaluate` adds a column for the test split.")
    if tested and evaluated is not None and evaluated.get("distances"):
        caption += f" {evaluated['distances']}"
    rows: list[list[Cell]] = [
        [name, unit_of(name, units), figures.get(name), *([tested.get(name)] if tested else [])]
        for name in dict.fromkeys([*figures, *tested])
    ]
    return Section("Bits per dimension", text, [bits_bar(bars), Table(caption, columns, rows)])


def codes_in_use(measured: Measurement, text: str) -> Iterator[Section]:
    """Yield the section on codebook use, if the latents are discrete."""
    if measured.counts is not None:
        yield Section("Codebook use", text, [codebook_use(measured.counts)])


def training_and_settings(run: RunFolder, model: Autoencoder) -> Iterator[Section]:
    """Yield the sections on training and settings of the model and, if one was fitted, of its prior."""
    yield Section("Training", blocks=[learning_curves(read_metrics(run.metrics))])
    settings: list[Block] = [Settings(read_text(run.recipe), "The model: recipe.yaml")]
    if model.prior is not None:
        yield Section("Training the prior", blocks=[learning_curves(read_metrics(run.prior.metrics))])
        settings.append(Settings(read_text(run.prior.recipe), "The prior: recipe.yaml"))
    yield Section("Settings", blocks=settings)
