"""Fréchet distances of samples and reconstructions to held-out motions, in features of a classifier of these data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from narrows.evaluation.frechet import frechet_distance_of
from narrows.modalities.motion.dataset import MotionData
from narrows.modalities.motion.frechet import Trained, WindowClassifier, train_window_classifier, windows_of
from narrows.modalities.motion.motions import Motions
from narrows.progress import Progress

__all__ = ["distances"]

FEATURE_STEPS = 600
AT_ONCE = 256
FEWEST = WindowClassifier.num_features + 1
"""Windows that a covariance of full rank needs."""


def distances(
    data: MotionData, real: Motions, made: Mapping[float, Mapping[str, Sequence[Tensor]]], progress: Progress
) -> tuple[dict[float, dict[str, float]], str]:
    """Return the Fréchet distances to `real` of the motions made at each point, by name, and a remark for the report.

    The motions are cut into windows of `data.window` frames; those shorter than one are left out. There are no
    distances if no classifier can be trained, or there are too few windows.
    """
    nothing: dict[float, dict[str, float]] = {point: {} for point in made}
    length = data.train.window
    windows = windows_of([real[index] for index in range(len(real))], length)
    sets = {(point, name): windows_of(motions, length) for point, own in made.items() for name, motions in own.items()}
    if few := [count for count in map(len, (windows, *sets.values())) if count < FEWEST]:
        return nothing, f"There is no Fréchet distance: it needs {FEWEST} windows of {length} frames, not {min(few)}."
    with progress("features", FEATURE_STEPS) as meter:
        trained = train_window_classifier(data.train, data.test, FEATURE_STEPS, advance=meter.advance)
    if trained is None:
        return nothing, "There is no Fréchet distance: it needs two classes, or sequences, to learn features from."
    found = {
        point: {f"frechet_{name}": _distance(trained, windows, sets[point, name]) for name in own}
        for point, own in made.items()
    }
    return found, _remark(trained, windows, data)


def _remark(trained: Trained, windows: Tensor, data: MotionData) -> str:
    """Return a remark on the features, with the distance of training windows for comparison."""
    training = windows_of([data.train[index] for index in range(len(data.train))], windows.shape[2])
    chosen = torch.randperm(len(training), generator=torch.Generator().manual_seed(0))[: len(windows)]
    accuracies = ", ".join(f"{accuracy:.1%} on {name}" for name, accuracy in trained.accuracies.items())
    beside = ""
    if len(chosen) >= FEWEST:
        away = _distance(trained, windows, training[chosen])
        beside = f" {len(chosen):,} windows of training motions are at {away:.3g}."
    return (
        f"The Fréchet distances are to {len(windows):,} held-out windows of {windows.shape[2]} frames, in the features "
        f"of a small classifier of the {trained.classes} of these data (accuracy: {accuracies or 'not measured'})."
        f"{beside} Use them only to compare these models with each other."
    )


def _distance(trained: Trained, first: Tensor, second: Tensor) -> float:
    names = ("held-out windows", "windows made")
    return frechet_distance_of(trained.network, first.split(AT_ONCE), second.split(AT_ONCE), names)
