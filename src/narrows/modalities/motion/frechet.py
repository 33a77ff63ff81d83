"""A small classifier of windows of motion, in whose features Fréchet distances are measured; see `evaluation.frechet`.

Its classes are those of the data, such as actions; without classes they are the sequences themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from narrows.data import BatchPlan
from narrows.data.loader import places
from narrows.evaluation.frechet import BATCH_SIZE, FeatureClassifier, classification_accuracy, train_classifier
from narrows.modalities.motion.motions import Motions

__all__ = ["Trained", "WindowClassifier", "train_window_classifier", "windows_of"]

LAST = 0.2
"""Share at the end of every sequence that the accuracy is measured on."""


class WindowClassifier(FeatureClassifier):
    """A plain convolutional classifier; maps windows [B, C, W] to their penultimate features [B, 32].

    Args:
        channels: C, the number of features of a frame.
        classes: the number of classes.
    """

    num_features = 32

    def __init__(self, channels: int, classes: int) -> None:
        layers = nn.Sequential(
            *_convolution(channels, 64, window=5),
            *_convolution(64, 64, window=3),
            *_convolution(64, self.num_features, window=3),
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
        )
        super().__init__(layers, self.num_features, classes)


class Trained(NamedTuple):
    """A classifier, and how good it is."""

    network: WindowClassifier
    accuracies: dict[str, float]
    """Shares of windows classified correctly that it was not trained on, by a description of the windows."""
    classes: str
    """The classes in words."""


class Windows(NamedTuple):
    """Training windows: clips, first frames, and classes, int64 [M] each."""

    which: np.ndarray
    starts: np.ndarray
    labels: np.ndarray


def train_window_classifier(
    train: Motions, held_out: Motions, steps: int, seed: int = 0, advance: Callable[[int], None] = lambda n: None
) -> Trained | None:
    """Train a classifier of windows on the CPU; the global random state is not changed.

    The last fifth of every sequence long enough is left out, for the accuracy.

    Args:
        train: the training split.
        held_out: another split of the same data, for the accuracy on other sequences of the same classes.
        steps: the number of training steps.
        seed: the seed of the initial weights and the order of the windows.
        advance: called with the number of steps done since the last call.

    Returns:
        the classifier; None if there are fewer than two classes.
    """
    which, starts = train.starts
    labels = (train.labels if train.classes else train.sources)[which]
    labelled = labels >= 0
    which, starts, labels = which[labelled], starts[labelled], labels[labelled]
    fitted, tested = (Windows(which[part], starts[part], labels[part]) for part in _by_time(train, which, starts))
    known = np.unique(fitted.labels)
    if len(known) < 2:
        return None
    batches = _batches(train, fitted, BatchPlan(min(BATCH_SIZE, len(fitted.which)), seed))
    build = partial(WindowClassifier, train.scale.format.size, int(known.max()) + 1)
    network = train_classifier(build, batches, steps, seed, advance)
    accuracies = {"the ends of training sequences": _accuracy(network, train, tested)}
    if train.classes:
        which, starts = held_out.starts
        alike = np.isin(held_out.labels[which], known)
        other = Windows(which[alike], starts[alike], held_out.labels[which[alike]])
        accuracies["held-out motions of the same classes"] = _accuracy(network, held_out, other)
    found = {name: accuracy for name, accuracy in accuracies.items() if accuracy is not None}
    return Trained(network, found, f"{len(known)} {'classes' if train.classes else 'sequences'}")


def windows_of(motions: Sequence[Tensor], length: int) -> Tensor:
    """Return all whole windows of motions [C, T] of any length, one after another without overlap, [N, C, W]."""
    cut = [x[:, at : at + length] for x in motions for at in range(0, x.shape[1] - length + 1, length)]
    return torch.stack(cut) if cut else torch.zeros(0, 1, length)


def _by_time(motions: Motions, which: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which windows lie before the last fifth of their sequence, and which in it, bool [M] each.

    All windows of a sequence of which this fifth is shorter than a window count as before it.
    """
    begins, sources = motions.begins[which] + starts, motions.sources[which]
    first, last = np.ones(len(which), bool), np.zeros(len(which), bool)
    for source in np.unique(sources):
        own, begin = sources == source, begins[sources == source].min()
        length = begins[own].max() + motions.window - begin
        limit = begin + (1 - LAST) * length
        if LAST * length >= motions.window:
            first[own] = begins[own] + motions.window <= limit
            last[own] = begins[own] >= limit
    return first, last


def _accuracy(network: WindowClassifier, motions: Motions, windows: Windows) -> float | None:
    """Return the accuracy on windows; None if there are none."""
    if not len(windows.which):
        return None
    parts = np.array_split(np.arange(len(windows.which)), -(-len(windows.which) // BATCH_SIZE))
    return classification_accuracy(network, (_batch(motions, windows, part) for part in parts))


def _batches(motions: Motions, windows: Windows, plan: BatchPlan) -> Iterator[tuple[Tensor, Tensor]]:
    for chosen in places(len(windows.which), plan):
        yield _batch(motions, windows, chosen)


def _batch(motions: Motions, windows: Windows, chosen: np.ndarray) -> tuple[Tensor, Tensor]:
    features, lengths, _ = motions.windows(windows.which[chosen], windows.starts[chosen])
    labels = torch.from_numpy(windows.labels[chosen])
    return motions.batch(torch.from_numpy(features), torch.from_numpy(lengths), labels).x, labels


def _convolution(inputs: int, outputs: int, window: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv1d(inputs, outputs, window, 2, padding=window // 2, bias=False)
    return convolution, nn.BatchNorm1d(outputs), nn.ReLU()
