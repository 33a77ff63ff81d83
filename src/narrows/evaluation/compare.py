"""A fair comparison: the trials it takes, the learning rate each method is given, and figures with their spread.

Every method first trains once at each learning rate of one sweep; the rate that did best on the validation split is
its own, and further seeds train at that. The test split is looked at only by the trials at the chosen rates.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["ENDS", "Outcome", "Spread", "Trial", "choose", "spreads", "sweep_end"]

ENDS = ("lowest", "highest")
"""The ends of a sweep, beyond which a better learning rate may lie."""


@dataclass(frozen=True, order=True)
class Trial:
    """One training run of a comparison.

    Args:
        method: the name of the method.
        learning_rate: Adam's step size.
        seed: of the weights, the order of the data and every draw.
    """

    method: str
    learning_rate: float
    seed: int

    @property
    def name(self) -> str:
        """Its folder within those of the comparison's trials."""
        return f"{self.method}/lr-{self.learning_rate:g}-seed-{self.seed}"


class Outcome(NamedTuple):
    """What became of a trial."""

    trial: Trial
    figures: Mapping[str, float] | None
    """On the validation split after the last step; None if the training diverged."""


class Spread(NamedTuple):
    """A figure over the seeds."""

    mean: float
    deviation: float | None
    """The sample standard deviation; None of a single seed."""

    def __str__(self) -> str:
        """The mean ± the deviation."""
        return f"{self.mean:.4g}" if self.deviation is None else f"{self.mean:.4g} ± {self.deviation:.2g}"


def sweep_end(outcomes: Iterable[Outcome], method: str, rate: float) -> str:
    """Where a method's learning rate lies at an end of its sweep, beyond which a better one may lie.

    Args:
        outcomes: of the sweep; rates at which training diverged are part of it.
        method: the method.
        rate: its learning rate.

    Returns:
        one of `ENDS` of the rates tried, "only" if no other was, or "" if it lies between others.
    """
    tried = {outcome.trial.learning_rate for outcome in outcomes if outcome.trial.method == method}
    if len(tried) == 1:
        return "only"
    return "lowest" if rate == min(tried) else "highest" if rate == max(tried) else ""


def choose(outcomes: Iterable[Outcome], criterion: str) -> dict[str, float]:
    """The learning rate of each method whose trial has the lowest `criterion`.

    Trials that diverged, or whose criterion is not finite, are passed over; a method of nothing else has no rate.
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
    """Mean and deviation of every figure that all the seeds have."""
    shared = [name for name in seeds[0] if all(name in figures for figures in seeds)]
    return {name: _spread([figures[name] for figures in seeds]) for name in shared}


def _spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)
