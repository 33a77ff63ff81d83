"""A fair comparison of methods: its trials, the choice of learning rates, and figures with their spread.

Every method first trains once at each learning rate of the same sweep. The rate with the best validation figure is
chosen, and further seeds train at it. Only trials at the chosen rates are measured on the test split.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["ENDS", "Outcome", "Spread", "Trial", "choose", "spreads", "sweep_end"]

ENDS = ("lowest", "highest")
"""Ends of a sweep, beyond which a better learning rate may lie."""


@dataclass(frozen=True, order=True)
class Trial:
    """One training run of a comparison.

    Args:
        method: name of the method.
        learning_rate: Adam's step size.
        seed: seed of the weights, the order of the data and every draw.
    """

    method: str
    learning_rate: float
    seed: int

    @property
    def name(self) -> str:
        """Folder of the trial, relative to the folder of all trials."""
        return f"{self.method}/lr-{self.learning_rate:g}-seed-{self.seed}"


class Outcome(NamedTuple):
    """The result of a trial."""

    trial: Trial
    figures: Mapping[str, float] | None
    """Figures of the validation split after the last step; None if training diverged."""


class Spread(NamedTuple):
    """Mean and standard deviation of a figure over the seeds."""

    mean: float
    deviation: float | None
    """Sample standard deviation; None for a single seed."""

    def __str__(self) -> str:
        """Return the mean ± the deviation."""
        return f"{self.mean:.4g}" if self.deviation is None else f"{self.mean:.4g} ± {self.deviation:.2g}"


def sweep_end(outcomes: Iterable[Outcome], method: str, rate: float) -> str:
    """Return the end of the sweep at which a method's learning rate lies, if any.

    Args:
        outcomes: results of the sweep, including those of rates at which training diverged.
        method: name of the method.
        rate: its learning rate.

    Returns:
        one of `ENDS`; "only" if no other rate was tried; or "" if the rate lies between others.
    """
    tried = {outcome.trial.learning_rate for outcome in outcomes if outcome.trial.method == method}
    if len(tried) == 1:
        return "only"
    return "lowest" if rate == min(tried) else "highest" if rate == max(tried) else ""


def choose(outcomes: Iterable[Outcome], criterion: str) -> dict[str, float]:
    """Return the learning rate with the lowest `criterion` for each method.

    Trials that diverged or whose criterion is not finite are ignored; a method with no other trials has no rate.
    """
    best: dict[str, Outcome] = {}
    for outcome in outcomes:
        if outcome.figures is None or not math.isfinite(outcome.figures[criterion]):
            continue
        held = best.get(outcome.trial.method)
        if held is None or held.figures is None or outcome.figures[criterion] < held.figures[criterion]:
            best[outcome.trial.method] = outcome
    return {method: outcome.trial.learning_rate for method, outcome in best.items()}


def spreads(seeds: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    """Return the mean and deviation of every figure that all seeds have."""
    shared = [name for name in seeds[0] if all(name in figures for figures in seeds)]
    return {name: _spread([figures[name] for figures in seeds]) for name in shared}


def _spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)
