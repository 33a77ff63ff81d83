"""The sections that reports of runs of every kind have: bits, use of the codebook, training, settings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from narrows.evaluation import Measurement
from narrows.models import Autoencoder
from narrows.report.figures import bits_bar, codebook_use, learning_curves
from narrows.report.metrics import read_metrics
from narrows.report.page import Block, Section, Settings, Table
from narrows.training.run import RunFolder

__all__ = ["bits", "codes_in_use", "training_and_settings"]


def bits(run: RunFolder, model: Autoencoder, measured: Measurement, text: str, unit: str) -> Section:
    """Rate and distortion, and all figures beside those of the test split; `unit` is what they are means over."""
    if model.lacks_prior:
        text += " The learned prior is not fitted yet: `narrows prior`."
    figures = measured.figures
    fixed = "uniform prior" if model.discrete else "N(0, I) prior"
    if measured.layer_rates:
        fixed = "hierarchical prior"
    bars = {fixed: (figures["rate_bits_per_dim"], figures["distortion_bits_per_dim"])}
    if "prior_rate_bits_per_dim" in figures:
        rate = figures["prior_rate_bits_per_dim"]
        bars["learned prior"] = (rate, figures["prior_bits_per_dim"] - rate)
    evaluated: dict[str, Any] = json.loads(run.evaluation.read_text()) if run.evaluation.exists() else {}
    tested = evaluated.get("figures", {})
    rows = [[name, value, tested.get(name)] for name, value in figures.items()]
    rows += [[name, None, value] for name, value in tested.items() if name not in figures]
    columns = ["figure", "validation", evaluated.get("split", "test")]
    caption = f"Means over the {unit}; `narrows evaluate` fills in the last column."
    return Section("Bits per dimension", text, [bits_bar(bars), Table(caption, columns, rows)])


def codes_in_use(measured: Measurement, text: str) -> Iterator[Section]:
    """How often each code was used; nothing of continuous latents."""
    if measured.counts is not None:
        yield Section("Codebook use", text, [codebook_use(measured.counts)])


def training_and_settings(run: RunFolder, model: Autoencoder) -> Iterator[Section]:
    """How the model, and its prior where one is fitted, were trained."""
    yield Section("Training", blocks=[learning_curves(read_metrics(run.metrics))])
    settings: list[Block] = [Settings(run.recipe.read_text(), "The model: recipe.yaml")]
    if model.prior is not None:
        yield Section("Training the prior", blocks=[learning_curves(read_metrics(run.prior.metrics))])
        settings.append(Settings(run.prior.recipe.read_text(), "The prior: recipe.yaml"))
    yield Section("Settings", blocks=settings)
