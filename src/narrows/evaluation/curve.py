"""Points of a rate-distortion curve: what a model that is held to a distortion costs, keeps, and makes up.

"Mind Your Bits and Errors: Prioritizing the Bits that Matter in Variational Autoencoders" (2021), figures 4 to 8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

__all__ = ["Point"]


@dataclass(frozen=True)
class Point:
    """A model of the curve.

    Args:
        gamma: the squared error it was held to, in training.
        validation_error: the squared error on the validation split.
        figures: of the test split, as `measure` gives them.
        multiplier: the multiplier l over the last steps.
        dimensions: d of the data.
        reconstructions: of images of the test split, [N, C, H, W].
        samples: means of p(x|z) under the prior, [M, C, H, W]; None where no prior was fitted to discrete codes.
        frechet: the Fréchet distances of samples and of reconstructions to the test split, where they were measured.
    """

    gamma: float
    validation_error: float
    figures: dict[str, float]
    multiplier: float
    dimensions: int
    reconstructions: Tensor
    samples: Tensor | None
    frechet: dict[str, float]

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
            "psnr": self.figures["psnr"],
            "multiplier": self.multiplier,
            **self.frechet,
        }

    @property
    def rate_bits(self) -> float:
        """The rate of an example, in bits."""
        return self.figures["rate_bits_per_dim"] * self.dimensions
