"""The Fréchet distance between sets of pictures, in the features of a small classifier trained on data like them.

d^2 = ||m1 - m2||^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), with the means m and covariances S of the features (Heusel et al.
2017, equation 6). These features need no download and suit any size and subject, but differ from Inception's: compare
the distances of models of one data set with each other, not with published figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from narrows.errors import NarrowsError

__all__ = ["BATCH_SIZE", "FeatureNetwork", "convolution", "distance_in_features", "train_classifier"]

BATCH_SIZE = 64
LEARNING_RATE = 1e-2


class FeatureNetwork(nn.Module):
    """A plain convolutional classifier; maps pictures [B, C, H, W] in [0, 1] to its penultimate features [B, 64].

    Args:
        channels: the number of channels C.
        classes: the number of classes; `classifier` maps features to logits [B, classes].
    """

    num_features = 64
    """The number of features of a picture; torchmetrics looks for this name."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *convolution(channels, 32, window=5, stride=2),
            *convolution(32, 64, window=3, stride=2),
            *convolution(64, 128, window=3, stride=2),
            *convolution(128, self.num_features, window=3, stride=1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.classifier = nn.Linear(self.num_features, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features [B, 64] of pictures [B, C, H, W]."""
        return self.layers(x)


def train_classifier(
    make: Callable[[], FeatureNetwork],
    batches: Iterator[tuple[Tensor, Tensor]],
    seed: int,
    steps: int,
    advance: Callable[[int], None] = lambda n: None,
    learning_rate: float = LEARNING_RATE,
) -> FeatureNetwork:
    """Train a feature network to classify pictures, on the CPU; the global random state is not changed.

    Args:
        make: makes the network.
        batches: endless batches of pictures, floats [B, C, H, W] in [0, 1], and their classes, int64 [B].
        seed: the seed of the initial weights.
        steps: the number of training steps.
        advance: called with the number of steps done since the last call.
        learning_rate: peak learning rate of Adam; the rate rises and falls once (Smith and Topin 2017).

    Returns:
        the network, in evaluation mode.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = make()
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


def distance_in_features(network: FeatureNetwork, real: Iterable[Tensor], made: Iterable[Tensor]) -> float:
    """Return the Fréchet distance between two sets of pictures; 0 if their features have equal mean and covariance.

    The distance is biased upwards for small sets, so compare only distances of equally many pictures.

    Args:
        network: the result of `train_classifier`, on the CPU; it is put into evaluation mode.
        real: batches of real pictures, floats [B, C, H, W] in [0, 1].
        made: batches of the pictures to compare with them.

    Raises:
        NarrowsError: if a set is too small for a covariance of full rank.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance  # slow to import

    needed = network.num_features + 1
    metric = FrechetInceptionDistance(network.eval())
    for batches, name, is_real in ((real, "real images", True), (made, "samples", False)):
        count = 0
        for x in batches:
            metric.update(x, real=is_real)
            count += len(x)
        if count < needed:
            raise NarrowsError(
                f"there are {count} {name}: a Fréchet distance of {network.num_features} features needs at least "
                f"{needed}"
            )
    return float(metric.compute())


def convolution(inputs: int, outputs: int, window: int, stride: int) -> tuple[nn.Module, ...]:
    """Return a convolution with batch normalisation and ReLU."""
    linear = nn.Conv2d(inputs, outputs, window, stride, padding=window // 2, bias=False)
    return linear, nn.BatchNorm2d(outputs), nn.ReLU()
