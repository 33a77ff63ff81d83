"""The Fréchet distance between sets of examples, in the features of a small classifier trained on the same data.

d^2 = ||m1 - m2||^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), with the means m and covariances S of the features (Heusel et al.
2017, equation 6). These features need no download and suit any size and subject, but differ from those of published
networks: compare the distances of models of one data set with each other, not with published figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn

from narrows.errors import NarrowsError

__all__ = [
    "BATCH_SIZE",
    "FeatureClassifier",
    "classification_accuracy",
    "convolution",
    "frechet_distance_of",
    "train_classifier",
]

BATCH_SIZE = 64


class FeatureClassifier(nn.Module):
    """A classifier; maps examples [B, C, *size] to its penultimate features [B, D].

    Args:
        layers: maps examples to features.
        features: D, the number of features.
        classes: the number of classes; `classifier` maps features to logits [B, classes].
    """

    num_features: int
    """The number of features of an example; torchmetrics looks for this name."""

    def __init__(self, layers: nn.Module, features: int, classes: int) -> None:
        super().__init__()
        self.num_features = features
        self.layers = layers
        self.classifier = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features [B, D] of examples."""
        return self.layers(x)


Network = TypeVar("Network", bound=FeatureClassifier)


def train_classifier(
    build: Callable[[], Network],
    batches: Iterator[tuple[Tensor, Tensor]],
    steps: int,
    seed: int = 0,
    advance: Callable[[int], None] = lambda n: None,
    learning_rate: float = 1e-2,
) -> Network:
    """Train a classifier on the CPU; the global random state is not changed.

    Args:
        build: returns the classifier with its initial weights.
        batches: endless batches of examples and their classes, int64 [B].
        steps: the number of training steps.
        seed: the seed of the initial weights.
        advance: called with the number of steps done since the last call.
        learning_rate: peak learning rate of Adam; the rate rises and falls once (Smith and Topin 2017).

    Returns:
        the classifier, in evaluation mode.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = build()
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps)
    for _ in range(steps):
        x, labels = next(batches)
        loss = nn.functional.cross_entropy(network.classifier(network(x)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        advance(1)
    return network.eval()


@torch.no_grad()
def classification_accuracy(network: FeatureClassifier, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Return the share of examples that are classified rightly, a measure of how good the features are.

    Args:
        network: the classifier; it is put into evaluation mode.
        batches: examples and their classes, int64 [B]; at least one.
    """
    network.eval()
    right = [network.classifier(network(x)).argmax(1) == labels for x, labels in batches]
    return float(torch.cat(right).double().mean())


def frechet_distance_of(
    network: nn.Module,
    real: Iterable[Tensor],
    made: Iterable[Tensor],
    names: tuple[str, str] = ("real examples", "samples"),
) -> float:
    """Return the Fréchet distance between two sets; 0 if their features have equal mean and covariance.

    The distance is biased upwards for small sets, so compare only distances of equally many examples.

    Args:
        network: maps examples to features, and has their number as `num_features`; on the CPU. It is put into
            evaluation mode.
        real: batches of real examples.
        made: batches of the examples to compare with them.
        names: plural nouns for both, for error messages.

    Raises:
        NarrowsError: if a set has too few examples for a covariance of full rank.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance  # slow to import

    needed = int(network.num_features) + 1  # type: ignore[arg-type]
    metric = FrechetInceptionDistance(network.eval())
    for batches, name, is_real in ((real, names[0], True), (made, names[1], False)):
        count = 0
        for x in batches:
            metric.update(x, real=is_real)
            count += len(x)
        if count < needed:
            raise NarrowsError(
                f"there are {count} {name}: a Fréchet distance of {needed - 1} features needs at least {needed}"
            )
    return float(metric.compute())


def convolution(inputs: int, outputs: int, window: int, stride: int) -> tuple[nn.Module, ...]:
    """Return a 2-D convolution with batch normalisation and ReLU."""
    linear = nn.Conv2d(inputs, outputs, window, stride, padding=window // 2, bias=False)
    return linear, nn.BatchNorm2d(outputs), nn.ReLU()
