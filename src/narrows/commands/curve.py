"""A rate-distortion curve: one recipe trained at several distortions, measured, sampled and drawn."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from narrows.commands.source import placed, source_override
from narrows.commands.trials import Plan, diverged, measure_trials, train_trials
from narrows.config import Recipe, resolve_images
from narrows.errors import NarrowsError
from narrows.estimators import DistortionTarget
from narrows.evaluation.curve import Point
from narrows.files import read_json
from narrows.modalities.images.files import to_unit
from narrows.modalities.images.frechet import FeatureNetwork, accuracy, frechet_distance, train_features
from narrows.modalities.images.images import ImageData, Images, open_images
from narrows.pretrained import load
from narrows.progress import progress
from narrows.report.curve import report_curve
from narrows.report.metrics import read_metrics
from narrows.report.sections import counted
from narrows.training.run import RunFolder

__all__ = ["Sweep", "curve"]

SHOWN, SAMPLED, SAMPLED_AT_ONCE = 10, 2000, 100
FEATURE_STEPS = 1500
LAST_ROWS = 5
"""Of the metrics, over which the multiplier is averaged."""


@dataclass(frozen=True)
class Sweep:
    """The points of a curve.

    Args:
        recipe: what is trained; its estimator is a DistortionTarget.
        variant: of the recipe.
        gammas: the squared errors to hold.
        source: the data; None for the recipe's own.
        on: the first stage, where the recipe is of a second.
        limit: how many test examples are measured; None for all.
        overrides: of the recipe, for all points.
    """

    recipe: Recipe
    variant: str | None
    gammas: Sequence[float]
    source: str | None
    on: str | None
    limit: int | None
    overrides: Sequence[str]


def curve(sweep: Sweep, out: Path, resume: bool, at_once: int) -> Path:
    """Train all points of a curve, some `at_once`, into the folder `out`, and write its report there.

    With `resume`, points that are finished stay, and those begun go on; gammas may be added.

    Returns:
        the report; beside it are its table as CSV and its drawings as SVG and PNG.

    Raises:
        NarrowsError: if settings do not fit, or are not those of a point in the folder.
    """
    gammas = sorted({f"{gamma:g}": gamma for gamma in sweep.gammas}.values(), reverse=True)
    if any(out.glob("*")) and not resume:
        raise NarrowsError(f"{out} is not empty: continue a curve with --resume, or use another folder")
    # Decoded once, into a file that every point maps.
    shared = ["--data.memory_limit_gb=0", *source_override(sweep.source), *sweep.overrides]
    shared += [] if sweep.on is None else [f"--on={placed(sweep.on)}"]
    built = resolve_images(sweep.recipe.variant(sweep.variant), shared, sweep.recipe.name).build()
    if not isinstance(built.estimator, DistortionTarget):
        raise NarrowsError(
            f"{sweep.recipe.name} is trained by {type(built.estimator).__name__}, which holds no distortion: a curve "
            "needs a recipe with the estimator DistortionTarget, such as hvae-svhn"
        )
    data = open_images(built.data)
    examples = len(data.test) if sweep.limit is None else min(sweep.limit, len(data.test))
    if not examples:
        raise NarrowsError("data.test holds out no image: raise it, since a curve is measured on such images")
    plans = {out / f"gamma-{gamma:g}": Plan(sweep.variant, [*shared, f"--estimator.gamma={gamma}"]) for gamma in gammas}
    train_trials("curve", sweep.recipe, plans, data, at_once)
    kept = {gamma: folder for gamma, folder in zip(gammas, plans, strict=True) if not diverged(folder)}
    if not kept:
        raise NarrowsError(f"every run in {out} diverged: set a lower --training.learning_rate, or training.clip_norm")

    measure_trials(list(kept.values()), examples, 1, sweep.limit, out, at_once)
    test = data.test.subset(min(examples, SAMPLED))
    features = _features(data, len(test))
    with progress("sample", len(kept), "models") as meter:
        points = []
        for gamma, folder in kept.items():
            points.append(_point(gamma, RunFolder(folder), test, features))
            meter.advance()
    told = None if features is None else accuracy(features, data.test)
    originals = to_unit(torch.from_numpy(test.pixels[:SHOWN].copy()))
    lost = [gamma for gamma in gammas if gamma not in kept]
    title = " ".join(filter(None, [sweep.recipe.name, sweep.variant]))
    measured_on = counted("test", examples, len(data.test))
    return report_curve(title, sweep.recipe.about, points, lost, originals, told, measured_on, len(test), out)


def _features(data: ImageData, images: int) -> FeatureNetwork | None:
    """The space of the Fréchet distance; None for data that no classifier can learn from, or with too few images."""
    if not isinstance(data.train, Images) or len(data.classes) < 2 or images <= FeatureNetwork.num_features:
        return None
    with progress("features", FEATURE_STEPS) as meter:
        return train_features(data.train, len(data.classes), steps=FEATURE_STEPS, advance=meter.advance)


@torch.no_grad()
def _point(gamma: float, run: RunFolder, test: Images, features: FeatureNetwork | None) -> Point:
    """The model of a run as it was measured, with its reconstructions of `test` and as many samples."""
    model = load(run.path)
    x = to_unit(torch.from_numpy(test.pixels.copy()))
    torch.manual_seed(0)
    reconstructions = torch.cat([model.reconstruct(part) for part in x.split(SAMPLED_AT_ONCE)])
    images = {"frechet_reconstructions": reconstructions}
    samples = None
    if not model.lacks_prior:
        samples = torch.cat([model.sample(len(part)) for part in x.split(SAMPLED_AT_ONCE)])
        images["frechet_samples"] = samples
    frechet = {}
    if features is not None:
        frechet = {name: frechet_distance(features, test, compared) for name, compared in images.items()}
    figures = read_json(run.evaluation)["figures"]
    rows = read_metrics(run.metrics)
    multipliers = [row["multiplier"] for row in rows if row["split"] == "train"]
    errors = [row["squared_error"] for row in rows if row["split"] == "validation"]
    return Point(
        gamma,
        errors[-1],
        figures,
        statistics.fmean(multipliers[-LAST_ROWS:]),
        model.dimensions,
        reconstructions[:SHOWN],
        None if samples is None else samples[:SHOWN],
        frechet,
    )
