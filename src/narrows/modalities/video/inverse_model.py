"""The inverse model: a small network that reads from two successive frames the action between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from narrows.evaluation.frechet import BATCH_SIZE, FeatureClassifier, convolution, train_classifier
from narrows.modalities.video.clips import VideoClips

__all__ = ["PairNetwork", "pairs_of", "read_actions", "train_inverse"]

LEARNING_RATE = 5e-3


class PairNetwork(FeatureClassifier):
    """A convolutional classifier of pairs of frames, [B, 6, H, W] in [0, 1], whose features keep where things move.

    A turn moves all parts of a picture alike, a step ahead moves them apart, so features are of 3x3 parts.

    Args:
        classes: the number of actions.
    """

    num_features = 64

    def __init__(self, classes: int) -> None:
        layers = nn.Sequential(
            nn.AvgPool2d(2),
            *convolution(6, 32, window=5, stride=1),
            *convolution(32, 64, window=3, stride=2),
            *convolution(64, 64, window=3, stride=2),
            *convolution(64, 64, window=3, stride=2),
            nn.AdaptiveAvgPool2d(3),
            nn.Flatten(),
            nn.Linear(9 * 64, self.num_features),
            nn.BatchNorm1d(self.num_features),
            nn.ReLU(),
        )
        super().__init__(layers, self.num_features, classes)


def pairs_of(clips: VideoClips) -> np.ndarray:
    """Return the indices of all frames of clips to which a known action led from the frame before, int64 [N]."""
    inside = np.ones(len(clips.values), bool)
    inside[clips.offsets[:-1]] = False
    return np.flatnonzero(inside & clips.features.any(1))


def train_inverse(
    clips: VideoClips, steps: int, seed: int = 0, advance: Callable[[int], None] = lambda n: None
) -> PairNetwork:
    """Train a network to classify pairs of frames, [B, 6, H, W], by the named action between them.

    Args:
        clips: the training clips.
        steps: the number of training steps, with batches of 64 pairs.
        seed: the seed of the initial weights and the order of the pairs.
        advance: called with the number of steps done since the last call.
    """
    chosen = pairs_of(clips)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        generator = np.random.default_rng(seed)
        while True:
            after = generator.choice(chosen, BATCH_SIZE)
            frames = torch.from_numpy(np.stack([clips.values[after - 1], clips.values[after]], 1))
            labels = torch.from_numpy(clips.features[after].argmax(1))
            yield VideoClips.to_x(frames).transpose(1, 2).flatten(1, 2), labels

    make = partial(PairNetwork, clips.features.shape[1])
    return train_classifier(make, batches(), steps, seed, advance, LEARNING_RATE)


@torch.no_grad()
def read_actions(network: PairNetwork, pairs: Tensor) -> Tensor:
    """Return the action read from each pair of frames, [N, 6, H, W] in [0, 1], int64 [N]."""
    return torch.cat([network.classifier(network(part)).argmax(1) for part in pairs.split(BATCH_SIZE)])
