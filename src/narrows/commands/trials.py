"""Trials: runs trained as planned and measured, each in its own process with its own memory.

Finished runs are kept and unfinished ones continued; a folder with a different run is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from narrows.atomic import whole_file
from narrows.commands.apart import run_apart
from narrows.commands.measure import evaluate
from narrows.commands.source import changes_since
from narrows.commands.train import train
from narrows.data import Data
from narrows.errors import NarrowsError
from narrows.modalities.recipes import resolve_training
from narrows.progress import Progress, progress
from narrows.recipe import Recipe
from narrows.report.metrics import read_metrics
from narrows.training.loop import DivergedError
from narrows.training.run import RunFolder

__all__ = ["Plan", "diverged", "measure_trials", "train_trials"]


class Plan(NamedTuple):
    """The training of one run: a variant of the recipe, and overrides."""

    variant: str | None
    overrides: Sequence[str]


def train_trials(
    title: str, recipe: Recipe, plans: Mapping[Path, Plan], data: Data, at_once: int, progress: Progress
) -> None:
    """Train the planned run of each folder on `data`, unless it is finished, with a progress bar called `title`.

    Raises:
        NarrowsError: if a folder has a run with other settings or on other data, or a run fails for another reason than
            divergence.
    """
    steps, work = {}, {}
    for folder, (variant, overrides) in plans.items():
        run = RunFolder(folder)
        resolved = resolve_training(recipe.variant(variant), overrides, f"{recipe.name}, {variant}")
        steps[folder] = resolved.values.training.steps
        begun = run.recipe.exists()
        if begun and resolve_training(run.reopen(), origin=str(run.recipe)).yaml != resolved.yaml:
            raise NarrowsError(
                f"{run.recipe} is not what `narrows {title}` would train there now: give the settings that the run was "
                "started with, or use another folder"
            )
        if begun and run.data.exists() and (changed := changes_since(run, data)) is not None:
            raise NarrowsError(
                f"{run.path} was trained on other data than the present ones ({changed}), and runs on different data "
                "cannot be compared: restore the data, or use another folder"
            )
        # A run writes its report last.
        if not run.report.exists() and not _word(folder).exists():
            work[folder / "log.txt"] = partial(_train_one, recipe, variant, folder, begun, [] if begun else overrides)

    total = sum(steps.values())
    before = total - sum(steps[log.parent] for log in work)
    with progress(title, total, done=before) as meter:
        run_apart(work, at_once, lambda: meter.to(before + sum(_last_step(log.parent) for log in work)))


def diverged(folder: Path) -> bool:
    """Return whether the training of a trial diverged, that is, reached values that are not finite."""
    return _word(folder).exists()


def measure_trials(
    folders: Sequence[Path],
    examples: int,
    samples: int,
    limit: int | None,
    out: Path,
    at_once: int,
    progress: Progress,
    distances: bool = False,
) -> None:
    """Evaluate trials on the test split as `narrows evaluate` does, unless they already are.

    Args:
        folders: the folders of the trials.
        examples: the number of test examples measured.
        samples: the number S of samples of the importance-weighted bound.
        limit: the size of a random subset of the test examples; None for all.
        out: the folder for log files.
        at_once: the number of processes at a time.
        progress: shows how far the work is.
        distances: also measure distances of reconstructions and samples.
    """
    wanted = {"split": "test", "examples": examples, "samples": samples}

    def done(folder: Path) -> bool:
        found = _evaluated(folder)
        return wanted.items() <= found.items() and not (distances and found.get("distances") is None)

    missing = [folder for folder in folders if not done(folder)]
    work = {
        out / f"evaluate-{first + 1}.txt": partial(_evaluate_all, missing[first::at_once], samples, limit, distances)
        for first in range(min(at_once, len(missing)))
    }
    with progress("evaluate", len(missing), "runs") as meter:
        run_apart(work, at_once, lambda: meter.to(sum(map(done, missing))))


def _train_one(recipe: Recipe, variant: str | None, folder: Path, resume: bool, overrides: Sequence[str]) -> None:
    try:
        train(recipe, folder, variant, resume=resume, overrides=overrides, progress=progress)
    except DivergedError as error:
        with whole_file(_word(folder)) as aside:
            aside.write_text(f"{error}\n")


def _word(folder: Path) -> Path:
    """Return the path of the file that marks a run as diverged."""
    return folder / "diverged.txt"


def _last_step(folder: Path) -> int:
    metrics = RunFolder(folder).metrics
    if diverged(folder) or not metrics.exists():
        return 0
    rows = read_metrics(metrics)
    return rows[-1]["step"] if rows else 0


def _evaluate_all(folders: Sequence[Path], samples: int, limit: int | None, distances: bool) -> None:
    for folder in folders:
        evaluate(str(folder), split="test", samples=samples, limit=limit, distances=distances, progress=progress)


def _evaluated(folder: Path) -> dict[str, Any]:
    return RunFolder(folder).evaluated() or {}
