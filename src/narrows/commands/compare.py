"""Compare methods with the same data, networks, bits and budget, over several seeds, in one report.

The methods are variants of one recipe, which states what they share. Each trial is an ordinary run folder, trained in
its own process with its own memory, and continues where it was interrupted.
"""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from jsonargparse import Namespace

from narrows.bottlenecks import ResidualQuantizer
from narrows.commands.made import require_distances
from narrows.commands.source import open_data, shared_overrides
from narrows.commands.train import rehearse
from narrows.commands.trials import Plan, diverged, measure_trials, train_trials
from narrows.data import Data
from narrows.errors import NarrowsError
from narrows.evaluation.compare import ENDS, Outcome, Trial, choose, sweep_end
from narrows.modalities import find_modality
from narrows.modalities.recipes import resolve_training
from narrows.models import Autoencoder
from narrows.progress import Progress, hidden
from narrows.recipe import Recipe
from narrows.report.compare import report_comparison
from narrows.report.metrics import read_metrics
from narrows.report.svg import HUES
from narrows.training.run import RunFolder
from narrows.training.tasks import AutoencoderTask

__all__ = ["Budget", "Comparison", "compare"]

MEASUREMENTS, CHECKPOINTS = 20, 4
GRADIENT_DRAWS = 16
PACE_STEPS, PACE_LOGGED = 40, 10

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Budget:
    """The length of each trial: a number of steps, or the number that a method trains in a given time.

    Args:
        steps: the number of optimiser steps; None if `minutes` is given.
        minutes: the minutes of training.
    """

    steps: int | None = None
    minutes: float | None = None

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Parse a number of steps, such as `3000`, or of minutes, such as `10m`.

        Raises:
            NarrowsError: if it is neither.
        """
        try:
            budget = cls(minutes=float(text[:-1])) if text.endswith("m") else cls(steps=int(text))
        except ValueError:
            budget = cls()
        if not (budget.steps or budget.minutes or 0) > 0:
            raise NarrowsError(f"--budget {text}: give a number of steps, such as 3000, or minutes, such as 10m")
        return budget


@dataclass(frozen=True)
class Comparison:
    """The settings of a comparison.

    Args:
        recipe: the settings that the methods share, with a variant for each method.
        methods: the names of the variants to compare.
        source: the data; None for the recipe's own.
        bits: the bits of the codes of one example; None leaves the codebooks as in the recipe.
        budget: the budget of each trial.
        seeds: the number of seeds trained at the chosen learning rate of a method.
        learning_rates: the learning rates of the sweep, at seed 0.
        criterion: the validation figure that chooses the learning rate; lower is better.
        samples: the number S of samples of the importance-weighted bound on the test split.
        limit: the number of test examples to measure; None for all.
        overrides: overrides of the recipe, for all methods.
        distances: also measure the distances of reconstructions and samples from the test examples.
    """

    recipe: Recipe
    methods: Sequence[str]
    source: str | None
    bits: int | None
    budget: Budget
    seeds: int
    learning_rates: Sequence[float]
    criterion: str
    samples: int
    limit: int | None
    overrides: Sequence[str]
    distances: bool = False


def compare(
    comparison: Comparison, out: Path, resume: bool = False, at_once: int = 1, progress: Progress = hidden
) -> Path:
    """Train all trials of a comparison, `at_once` at a time, in the folder `out`, and write its report there.

    With `resume`, finished trials are kept and unfinished ones continued; methods, seeds and rates can be added.

    Returns:
        the path of the report; its tables (CSV) and drawings (SVG and PNG) are beside it.

    Raises:
        NarrowsError: if settings do not fit together, or differ from those of a trial in the folder.
    """
    if not 1 <= len(set(comparison.methods)) == len(comparison.methods) <= len(HUES):
        raise NarrowsError(
            f"{', '.join(comparison.methods)}: name each method once, and at most {len(HUES)}, which is the number of "
            "colours in a drawing"
        )
    if any(out.glob("*")) and not resume:
        raise NarrowsError(f"{out} is not empty: continue a comparison with --resume, or use another folder")
    data, fitted = _fit(comparison, progress)
    if comparison.distances:
        require_distances(find_modality(data.spec.modality))
    train_all = partial(train_trials, "compare", comparison.recipe, data=data, at_once=at_once, progress=progress)
    budgets = _budgets(comparison, fitted, train_all, out / "pace")

    def run(trials: Sequence[Trial]) -> list[Outcome]:
        plans = {}
        for trial in trials:
            own = [f"--training.learning_rate={trial.learning_rate}", f"--training.seed={trial.seed}"]
            overrides = [*fitted[trial.method], *budgets[trial.method], *own]
            plans[out / "trials" / trial.name] = Plan(trial.method, overrides)
        train_all(plans)
        return [_outcome(trial, out / "trials" / trial.name) for trial in trials]

    methods = comparison.methods
    sweep = run([Trial(method, rate, 0) for method in methods for rate in dict.fromkeys(comparison.learning_rates)])
    rates = choose(sweep, comparison.criterion)
    if not rates:
        raise NarrowsError(f"every run in {out} diverged: give lower --learning-rates, or set --training.clip_norm")
    _warn_of_ends(sweep, rates)
    repeats = run([Trial(method, rate, seed) for method, rate in rates.items() for seed in range(1, comparison.seeds)])
    chosen = [
        outcome
        for outcome in [*sweep, *repeats]
        if outcome.figures is not None and outcome.trial.learning_rate == rates.get(outcome.trial.method)
    ]
    folders = [out / "trials" / outcome.trial.name for outcome in chosen]
    examples = len(data.test) if comparison.limit is None else min(comparison.limit, len(data.test))
    measure_trials(
        folders, examples, comparison.samples, comparison.limit, out, at_once, progress, comparison.distances
    )
    return report_comparison(
        comparison.recipe, methods, [*sweep, *repeats], rates, comparison.criterion, data, out, progress
    )


def _warn_of_ends(sweep: Sequence[Outcome], rates: Mapping[str, float]) -> None:
    for method, rate in rates.items():
        if (end := sweep_end(sweep, method, rate)) in ENDS:
            logger.warning(
                "%s: its best learning rate, %g, is the %s of the sweep; a %s one may be better: add one with "
                "--learning-rates and --resume",
                *(method, rate, end, "lower" if end == "lowest" else "higher"),
            )


def _require_same_data(first: tuple[str, Namespace], other: tuple[str, Namespace]) -> None:
    """Check that two methods have the same data settings.

    Raises:
        NarrowsError: if they do not, with the methods, the setting and both values.
    """
    (method, settings), (another, others) = first, other
    ours, theirs = dict(settings.items()), dict(others.items())
    for name in dict.fromkeys([*ours, *theirs]):
        if ours.get(name) != theirs.get(name):
            raise NarrowsError(
                f"methods are compared on the same data, but data.{name} is {ours.get(name)!r} for {method} and "
                f"{theirs.get(name)!r} for {another}: leave `data` out of the variants, or give --data.{name} for all"
            )


def _fit(comparison: Comparison, progress: Progress) -> tuple[Data, dict[str, list[str]]]:
    """Return the data, and for each method the overrides that give its codes the requested number of bits."""
    data, fitted = None, {}
    first: tuple[str, Namespace] | None = None
    for method in comparison.methods:
        settings = comparison.recipe.variant(method)
        shared = shared_overrides(settings, comparison.source, comparison.overrides)
        resolved = resolve_training(settings, shared, f"{comparison.recipe.name}, {method}")
        first = first or (method, resolved.values.data)
        _require_same_data(first, (method, resolved.values.data))
        built = resolved.build()
        if data is None:
            data = open_data(find_modality(built.modality), built.data, progress)
            if not len(data.test):
                raise NarrowsError(
                    "data.test holds out no examples: increase it, since methods are compared on test examples"
                )
        model = built.model(data.spec)
        task = AutoencoderTask(model, built.estimator, data.train.batch)
        rehearse(task, next(data.test.numbered(model.classes).whole(1)))
        fitted[method] = [*shared, *_bits(comparison, method, model)]
    assert data is not None
    return data, fitted


def _bits(comparison: Comparison, method: str, model: Autoencoder) -> list[str]:
    """Return the override that gives the codes of an example, or a training window, the requested number of bits."""
    if comparison.bits is None or not model.discrete:
        return []
    positions, size = math.prod(model.grid), model.codes.codebook_size
    codebooks = comparison.bits / (positions * math.log2(size))
    if codebooks < 1 or not codebooks.is_integer():
        raise NarrowsError(
            f"--bits {comparison.bits} does not fit {method}, which has {positions} position(s) with codes of {size}: "
            f"give a multiple of {positions * math.log2(size):g}, or change its codebook_size"
        )
    setting = "depth" if isinstance(model.bottleneck, ResidualQuantizer) else "codebooks"
    return [f"--model.bottleneck.{setting}={codebooks:.0f}"]


def _budgets(
    comparison: Comparison,
    fitted: Mapping[str, Sequence[str]],
    train_all: Callable[[Mapping[Path, Plan]], None],
    folder: Path,
) -> dict[str, list[str]]:
    """Return for each method the overrides that set its budget."""
    steps = dict.fromkeys(comparison.methods, comparison.budget.steps)
    if comparison.budget.minutes is not None:
        pace = [f"--training.steps={PACE_STEPS}", f"--training.log_every={PACE_LOGGED}"]
        train_all({folder / method: Plan(method, [*given, *pace]) for method, given in fitted.items()})
        for method in comparison.methods:
            rows = [row for row in read_metrics(RunFolder(folder / method).metrics) if row["split"] == "train"]
            # The first row includes all one-time work.
            rate = statistics.median(row["steps_per_second"] for row in rows[1:])
            steps[method] = max(1, round(comparison.budget.minutes * 60 * rate))
    return {method: _schedule(comparison.recipe, method, count or 0) for method, count in steps.items()}


def _schedule(recipe: Recipe, method: str, steps: int) -> list[str]:
    overrides = {
        "training.steps": steps,
        "training.validate_every": max(1, steps // MEASUREMENTS),
        "training.checkpoint_every": max(1, steps // CHECKPOINTS),
        "training.keep": 1,
        "training.gradient_draws": GRADIENT_DRAWS,
    }
    estimator = resolve_training(recipe.variant(method), origin=recipe.name).values.estimator
    if "annealing_steps" in estimator.get("init_args", {}):
        overrides["estimator.annealing_steps"] = steps
    return [f"--{name}={value}" for name, value in overrides.items()]


def _outcome(trial: Trial, folder: Path) -> Outcome:
    if diverged(folder):
        return Outcome(trial, None)
    rows = [row for row in read_metrics(RunFolder(folder).metrics) if row["split"] == "validation"]
    return Outcome(trial, {name: value for name, value in rows[-1].items() if name not in ("step", "split")})
