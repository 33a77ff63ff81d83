"""Points of a rate-distortion curve: figures, reconstructions and samples of models trained to fixed distortions.

"Mind Your Bits and Errors: Prioritizing the Bits that Matter in Variational Autoencoders" (2021), figures 4 to 8.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

__all__ = ["Curve", "Point"]


@dataclass(frozen=True)
class Point:
    """One model of a rate-distortion curve.

    Args:
        gamma: target squared error in training.
        validation_error: squared error on the validation split.
        figures: figures of the test split, as returned by `measure`.
        multiplier: mean multiplier l over the last steps.
        dimensions: d, the number of dimensions of an example.
        reconstructions: reconstructions of test examples, each [C, *size].
        samples: means of p(x|z) for z drawn from the prior, each [C, *size]; None if the codes are discrete and no
            prior was fitted.
        distances: distances of samples and of reconstructions to the test split, if they were measured.
    """

    gamma: float
    validation_error: float
    figures: dict[str, float]
    multiplier: float
    dimensions: int
    reconstructions: Sequence[Tensor]
    samples: Sequence[Tensor] | None
    distances: dict[str, float]

    @property
    def row(self) -> dict[str, Any]:
        """All numbers of the point; rate, log-likelihood and ELBO in bits/dim and in nats per example."""
        nats = self.dimensions * math.log(2)
        in_bits = {
            "rate": self.figures["rate_bits_per_dim"],
            "log_likelihood": -self.figures["distortion_bits_per_dim"],
            "elbo": -self.figures["bits_per_dim"],
        }
        return {
            "gamma": self.gamma,
            "squared_error": self.figures["squared_error"],
            "off_target": self.validation_error / self.gamma - 1,
            **{f"{name}_bits_per_dim": bits for name, bits in in_bits.items()},
            **{f"{name}_nats": bits * nats for name, bits in in_bits.items()},
            **{name: self.figures[name] for name in ("psnr",) if name in self.figures},
            "multiplier": self.multiplier,
            **self.distances,
        }

    @property
    def rate_bits(self) -> float:
        """Rate in bits per example."""
        return self.figures["rate_bits_per_dim"] * self.dimensions


@dataclass(frozen=True)
class Curve:
    """A rate-distortion curve and the texts of its report.

    Args:
        title: title of the recipe.
        about: description of the recipe.
        points: points from the largest gamma to the smallest.
        lost: gammas at which training diverged.
        originals: the examples that the points reconstruct, each [C, *size].
        distances: text about the distances of samples and reconstructions.
        measured_on: the split measured and how much of it; see `narrows.report.sections.counted`.
    """

    title: str
    about: str
    points: Sequence[Point]
    lost: Sequence[float]
    originals: Sequence[Tensor]
    distances: str
    measured_on: str
