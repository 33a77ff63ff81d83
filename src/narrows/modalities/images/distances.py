"""Fréchet distances of samples and reconstructions to real images, for the points of a rate-distortion curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from narrows.modalities.images.frechet import FeatureNetwork, accuracy, frechet_distance, train_features
from narrows.modalities.images.images import Images
from narrows.progress import Progress

__all__ = ["distances"]

FEATURE_STEPS = 1500
NO_DISTANCE = "There is no Fréchet distance: it needs labels to learn features from, and more test images."


def distances(
    data: Any, real: Any, made: Mapping[float, Mapping[str, Sequence[Tensor]]], progress: Progress
) -> tuple[dict[float, dict[str, float]], str]:
    """Return the Fréchet distances to `real` of the images made at each point, by name, and a remark for the report.

    There are no distances if the data have fewer than two classes or too few images.
    """
    if not isinstance(data.train, Images) or len(data.classes) < 2 or len(real) <= FeatureNetwork.num_features:
        return {point: {} for point in made}, NO_DISTANCE
    with progress("features", FEATURE_STEPS) as meter:
        features = train_features(data.train, len(data.classes), steps=FEATURE_STEPS, advance=meter.advance)
    found = {
        point: {
            f"frechet_{name}": frechet_distance(features, real, torch.stack(list(images)))
            for name, images in own.items()
        }
        for point, own in made.items()
    }
    told = accuracy(features, data.test)
    return found, (
        f"The Fréchet distances are between {len(real):,} images and as many test images, in the features of a small "
        f"classifier trained on these data (test accuracy {told:.1%}). Use them only to compare these models with each "
        "other."
    )
