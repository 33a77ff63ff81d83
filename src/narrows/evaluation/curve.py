"""Points of a rate-distortion curve: what a model that is held to a distortion costs, keeps, and makes up.

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
    """A model of the curve.

    Args:
        gamma: the squared error it was held to, in training.
        validation_error: the squared error on the validation split.
        figures: of the test split, as `measure` gives them.
        multiplier: the multiplier l over the last steps.
        dimensions: d of the data.
        reconstructions: of examples of the test split, [N, C, *size].
        samples: means of p(x|z) under the prior, [N, C, *size]; None where no prior was fitted to discrete codes.
        distances: of samples and of reconstructions to the test split, where they were measured.
    """

    gamma: float
    validation_error: float
    figures: dict[str, float]
    multiplier: float
    dimensions: int
    reconstructions: Tensor
    samples: Tensor | None
    distances: dict[str, float]

    @property
    def row(self) -> dict[str, Any]:
        """All of it that is a number: rate, log-likelihood and ELBO in bits/dim, and in nats per example beside it."""
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
        """The rate of an example, in bits."""
        return self.figures["rate_bits_per_dim"] * self.dimensions


@dataclass(frozen=True)
class Curve:
    """A curve, and what its report says.

    Args:
        title: what was trained.
        about: what that is.
        points: from the largest gamma to the smallest.
        lost: the gammas whose training diverged.
        originals: the examples of which the points hold reconstructions, each [C, *size].
        distances: what to say of the distances of samples and reconstructions.
        measured_on: the split that the figures are of, and how much of it; see `narrows.report.sections.counted`.
    """

    title: str
    about: str
    points: Sequence[Point]
    lost: Sequence[float]
    originals: Sequence[Tensor]
    distances: str
    measured_on: str
