"""Gaussian densities of continuous data, which have no levels: values of any size, such as standardised measurements.

`log_prob` is the logarithm of a density, not of a probability. It depends on the unit of the data: values a times as
large have a density 1/a times as large. So bits per dimension may be negative, and cannot be compared with those of
data on levels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from narrows.errors import NarrowsError
from narrows.likelihoods.likelihood import Likelihood, Observation

__all__ = ["GaussianDensityFixed", "GaussianDensityShared"]

LEAST = 1e-3
"""Lower bound on a learned scale: without one, data that are reproduced exactly have an unbounded density."""


class GaussianDensityFixed(Likelihood):
    """N(x; out, sigma^2) with one fixed sigma, for continuous data; `log_prob` is that of the density.

    Args:
        channels: C, number of channels of the data.
        scale: the standard deviation sigma, in the unit of the data.

    Raises:
        NarrowsError: if the scale is not positive.
    """

    def __init__(self, channels: int, scale: float = 1.0) -> None:
        super().__init__(channels, features=channels)
        if scale <= 0:
            raise NarrowsError(f"scale must be positive, not {scale}")
        self.scale = scale

    def _observe(self, out: Tensor) -> Observation:
        return _Density(out, out.new_full((), self.scale))


class GaussianDensityShared(Likelihood):
    """N(x; out, sigma^2) with one learned sigma = 0.001 + softplus(r), for continuous data; see `GaussianDensityFixed`.

    Args:
        channels: C, number of channels of the data.
        scale: initial standard deviation sigma, in the unit of the data; more than 0.001.

    Raises:
        NarrowsError: if the scale is too small.
    """

    learns_scale = True

    def __init__(self, channels: int, scale: float = 1.0) -> None:
        super().__init__(channels, features=channels)
        if scale <= LEAST:
            raise NarrowsError(f"scale must be more than {LEAST:g}, not {scale}")
        self.raw_scale = nn.Parameter(torch.tensor(math.log(math.expm1(scale - LEAST))))

    def _observe(self, out: Tensor) -> Observation:
        return _Density(out, LEAST + F.softplus(self.raw_scale.float()))


class _Density(Observation):
    """Gaussian density with one standard deviation."""

    def __init__(self, location: Tensor, scale: Tensor) -> None:
        super().__init__(location.shape)
        self.location = location
        self.scale = scale

    def _log_terms(self, x: Tensor) -> Tensor:
        squares = (x.float() - self.location) ** 2
        return -math.log(2 * math.pi) / 2 - self.scale.log() - squares / self.scale**2 / 2

    @property
    def mean(self) -> Tensor:
        return self.location

    def sample(self) -> Tensor:
        return self.location + self.scale * torch.randn_like(self.location)
