"""The Fréchet distance between sets of images, in the features of a small classifier; see `evaluation.frechet`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from narrows.data import BatchPlan
from narrows.data.pixels import to_uint8, to_unit
from narrows.errors import NarrowsError
from narrows.evaluation.frechet import (
    BATCH_SIZE,
    FeatureClassifier,
    classification_accuracy,
    convolution,
    frechet_distance_of,
    train_classifier,
)
from narrows.modalities.images.images import Images

__all__ = ["FeatureNetwork", "accuracy", "frechet_distance", "train_features"]


class FeatureNetwork(FeatureClassifier):
    """A plain convolutional classifier; maps images [B, C, H, W] in [0, 1] to its penultimate features [B, 64].

    Args:
        channels: the number of image channels C.
        classes: the number of classes; `classifier` maps features to logits [B, classes].
    """

    num_features = 64

    def __init__(self, channels: int, classes: int) -> None:
        layers = nn.Sequential(
            *convolution(channels, 32, window=5, stride=2),
            *convolution(32, 64, window=3, stride=2),
            *convolution(64, 128, window=3, stride=2),
            *convolution(128, self.num_features, window=3, stride=1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        super().__init__(layers, self.num_features, classes)


def train_features(
    images: Images,
    classes: int,
    seed: int = 0,
    steps: int = 1500,
    advance: Callable[[int], None] = lambda n: None,
) -> FeatureNetwork:
    """Train a feature network to classify the images, on the CPU; the global random state is not changed.

    Args:
        images: the training split.
        classes: the number of classes.
        seed: the seed of the initial weights and the order of the images.
        steps: the number of training steps, with batches of 64 images.
        advance: called with the number of steps done since the last call.

    Returns:
        the network, in evaluation mode.

    Raises:
        NarrowsError: if the images have no labels, or there are fewer than two classes.
    """
    if images.labels is None or classes < 2:
        raise NarrowsError(
            "the Fréchet distance needs labelled data: its features are those of a classifier, which needs images of "
            "at least two classes; give data with labels, or leave the distance out"
        )
    build = partial(FeatureNetwork, images.pixels.shape[1], classes)
    with images.batches(BatchPlan(min(BATCH_SIZE, len(images)), seed)) as batches:
        return train_classifier(build, ((to_unit(x), labels) for x, labels in batches), steps, seed, advance)


def accuracy(network: FeatureNetwork, images: Images) -> float:
    """Return the classification accuracy of the network in [0, 1], a measure of how good its features are.

    Raises:
        NarrowsError: if there are no images, or they have no labels.
    """
    if images.labels is None or not len(images):
        raise NarrowsError("the accuracy of a feature network needs labelled images, and there are none")
    labels = torch.from_numpy(images.labels).split(BATCH_SIZE)
    return classification_accuracy(network, zip(_batches(images), labels, strict=True))


def frechet_distance(network: FeatureNetwork, real: Images | Tensor, samples: Images | Tensor) -> float:
    """Return the Fréchet distance between two sets of images; 0 if their features have equal mean and covariance.

    The distance is biased upwards for small sets, so compare only distances of equally many images.

    Args:
        network: the result of `train_features`, on the CPU; it is put into evaluation mode.
        real: the real images.
        samples: the images to compare with them. Tensors [N, C, H, W] are clamped to [0, 1], since the mean of a
            Gaussian model may lie outside, and rounded to the 256 levels of files.

    Raises:
        NarrowsError: if a set has too few images for a covariance of full rank, or has values that are not finite.
    """
    return frechet_distance_of(network, _batches(real), _batches(samples), ("real images", "samples"))


def _batches(images: Images | Tensor) -> Iterator[Tensor]:
    for start in range(0, len(images), BATCH_SIZE):
        part = slice(start, start + BATCH_SIZE)
        if isinstance(images, Tensor):
            yield to_unit(to_uint8(images[part]))
        else:
            yield to_unit(torch.from_numpy(np.ascontiguousarray(images.pixels[part])))
