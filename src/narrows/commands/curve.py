"""Train one recipe at several target distortions and report the rate-distortion curve, with samples."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from narrows.commands.made import AT_MOST, made_from
from narrows.commands.source import open_data, placed, shared_overrides
from narrows.commands.trials import Plan, diverged, measure_trials, train_trials
from narrows.errors import NarrowsError
from narrows.estimators import DistortionTarget
from narrows.evaluation.curve import Curve, Point
from narrows.modalities import find_modality
from narrows.modalities.recipes import resolve_training
from narrows.pretrained import load
from narrows.progress import Progress, hidden
from narrows.recipe import Recipe
from narrows.report.curve import report_curve
from narrows.report.metrics import read_metrics
from narrows.report.sections import counted
from narrows.training.run import RunFolder

__all__ = ["Sweep", "curve"]

SHOWN = 10
LAST_ROWS = 5
"""The number of last metric rows over which the multiplier is averaged."""


@dataclass(frozen=True)
class Sweep:
    """The settings of a rate-distortion curve.

    Args:
        recipe: the recipe to train; its estimator must be a DistortionTarget.
        variant: the variant of the recipe.
        gammas: the target squared errors, one per point.
        source: the data; None for the recipe's own.
        on: the first stage, if the recipe is a second stage.
        limit: the number of test examples to measure; None for all.
        overrides: overrides of the recipe, for all points.
    """

    recipe: Recipe
    variant: str | None
    gammas: Sequence[float]
    source: str | None
    on: str | None
    limit: int | None
    overrides: Sequence[str]


def curve(sweep: Sweep, out: Path, resume: bool = False, at_once: int = 1, progress: Progress = hidden) -> Path:
    """Train all points of a curve, `at_once` at a time, in the folder `out`, and write its report there.

    With `resume`, finished points are kept and unfinished ones continued; gammas can be added.

    Returns:
        the path of the report; its table (CSV) and drawings (SVG and PNG) are beside it.

    Raises:
        NarrowsError: if settings do not fit together, or differ from those of a point in the folder.
    """
    gammas = sorted({f"{gamma:g}": gamma for gamma in sweep.gammas}.values(), reverse=True)
    if any(out.glob("*")) and not resume:
        raise NarrowsError(f"{out} is not empty: continue a curve with --resume, or use another folder")
    settings = sweep.recipe.variant(sweep.variant)
    shared = shared_overrides(settings, sweep.source, sweep.overrides)
    shared += [] if sweep.on is None else [f"--on={placed(sweep.on)}"]
    built = resolve_training(settings, shared, sweep.recipe.name).build()
    if not isinstance(built.estimator, DistortionTarget):
        raise NarrowsError(
            f"{sweep.recipe.name} has the estimator {type(built.estimator).__name__}, which has no target distortion: "
            "a curve needs a recipe with the estimator DistortionTarget, such as hvae-svhn"
        )
    modality = find_modality(built.modality)
    data = open_data(modality, built.data, progress)
    examples = len(data.test) if sweep.limit is None else min(sweep.limit, len(data.test))
    if not examples:
        raise NarrowsError("data.test holds out no examples: increase it, since a curve is measured on test examples")
    plans = {out / f"gamma-{gamma:g}": Plan(sweep.variant, [*shared, f"--estimator.gamma={gamma}"]) for gamma in gammas}
    train_trials("curve", sweep.recipe, plans, data, at_once, progress)
    kept = {gamma: folder for gamma, folder in zip(gammas, plans, strict=True) if not diverged(folder)}
    if not kept:
        raise NarrowsError(f"every run in {out} diverged: set a lower --training.learning_rate, or training.clip_norm")

    measure_trials(list(kept.values()), examples, 1, sweep.limit, out, at_once, progress)
    test = data.test.subset(min(examples, AT_MOST))
    with progress("sample", len(kept), "models") as meter:
        made = {}
        for gamma, folder in kept.items():
            made[gamma] = made_from(load(folder), test, progress)
            meter.advance()
    distances, told = modality.distances(data, test, made, progress)
    points = [_point(gamma, RunFolder(folder), made[gamma], distances[gamma]) for gamma, folder in kept.items()]
    report = Curve(
        " ".join(filter(None, [sweep.recipe.name, sweep.variant])),
        sweep.recipe.about,
        points,
        [gamma for gamma in gammas if gamma not in kept],
        [test[index] for index in range(min(SHOWN, len(test)))],
        told,
        counted("test", examples, len(data.test)),
    )
    return report_curve(report, modality, data.spec, out)


def _point(gamma: float, run: RunFolder, made: Mapping[str, list[Tensor]], distances: dict[str, float]) -> Point:
    """Return the point of a run: its figures, reconstructions and samples."""
    evaluated = run.evaluated()
    assert evaluated is not None  # it was measured before
    rows = read_metrics(run.metrics)
    multipliers = [row["multiplier"] for row in rows if row["split"] == "train"]
    errors = [row["squared_error"] for row in rows if row["split"] == "validation"]
    reconstructions = made["reconstructions"][:SHOWN]
    return Point(
        gamma,
        errors[-1],
        evaluated["figures"],
        statistics.fmean(multipliers[-LAST_ROWS:]),
        load(run.path).dimensions,
        reconstructions,
        made["samples"][: len(reconstructions)] if "samples" in made else None,
        distances,
    )
