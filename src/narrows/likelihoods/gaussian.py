"""Gaussian pixels with a fixed, a learned shared, or a learned per-dimension scale, as a bound on discrete images.

With u uniform over a bin of width w, log P(x) = log E_u[w N(x + u; mu, sigma^2)] >= E_u[log w N(x + u; mu, sigma^2)]:
uniform dequantisation (Theis et al. 2016, A note on the evaluation of generative models, section 3.1), one u a call.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from narrows.errors import NarrowsError
from narrows.likelihoods.levels import Levels
from narrows.likelihoods.likelihood import Likelihood, Observation

__all__ = ["GaussianFixed", "GaussianPerDimension", "GaussianShared"]


def _least_scale(levels: Levels) -> float:
    """The lower bound on a learned scale: w/4, as the noise alone has standard deviation w / sqrt(12) = 0.289 w."""
    return levels.width / 4


class GaussianFixed(Likelihood):
    """N(x; 1/2 + out, sigma^2) with one fixed sigma; `log_prob` is a lower bound.

    Args:
        channels: C, the channels of the data.
        scale: the standard deviation sigma, in units of the data's range [0, 1].
        levels: the levels of the images; 256 for 8 bits.
    """

    def __init__(self, channels: int, scale: float = 0.1, levels: int = 256) -> None:
        super().__init__(channels, features=channels)
        if scale <= 0:
            raise NarrowsError(f"scale must be positive, not {scale}")
        self.levels = Levels(levels)
        self.scale = scale

    def _observe(self, out: Tensor) -> Observation:
        return _Observation(out, out.new_full((), self.scale), self.levels)


class GaussianShared(Likelihood):
    """N(x; 1/2 + out, sigma^2) with one learned sigma = w/4 + softplus(r); `log_prob` is a lower bound.

    Args:
        channels: C, the channels of the data.
        scale: the standard deviation sigma to start from; more than w/4, a quarter of the distance between two levels.
        levels: the levels of the images; 256 for 8 bits.
    """

    def __init__(self, channels: int, scale: float = 0.1, levels: int = 256) -> None:
        super().__init__(channels, features=channels)
        self.levels = Levels(levels)
        excess = scale - _least_scale(self.levels)
        if excess <= 0:
            raise NarrowsError(
                f"scale must be more than a quarter of a level, {_least_scale(self.levels):.3g}, not {scale}"
            )
        self.raw_scale = nn.Parameter(torch.tensor(math.log(math.expm1(excess))))

    def _observe(self, out: Tensor) -> Observation:
        return _Observation(out, _least_scale(self.levels) + F.softplus(self.raw_scale.float()), self.levels)


class GaussianPerDimension(Likelihood):
    """N(x; 1/2 + out_1, sigma^2), sigma = w/4 + softplus(out_2) / 10 in each dimension; `log_prob` is a lower bound.

    Args:
        channels: C, the channels of the data.
        levels: the levels of the images; 256 for 8 bits.
    """

    def __init__(self, channels: int, levels: int = 256) -> None:
        super().__init__(channels, features=2 * channels)
        self.levels = Levels(levels)

    def _observe(self, out: Tensor) -> Observation:
        offset, raw_scale = out.chunk(2, dim=1)
        return _Observation(offset, _least_scale(self.levels) + F.softplus(raw_scale) / 10, self.levels)


class _Observation(Observation):
    """Images are the levels nearest to draws from the Gaussian; its mean is not limited to [0, 1]."""

    def __init__(self, offset: Tensor, scale: Tensor, levels: Levels) -> None:
        super().__init__(offset.shape)
        self.location = 0.5 + offset
        self.scale = scale
        self.levels = levels

    def _log_terms(self, x: Tensor) -> Tensor:
        width = self.levels.width
        y = self.levels.check(x) + width * (torch.rand_like(self.location) - 0.5)
        return math.log(width / math.sqrt(2 * math.pi)) - self.scale.log() - ((y - self.location) / self.scale) ** 2 / 2

    @property
    def mean(self) -> Tensor:
        return self.location

    def sample(self) -> Tensor:
        return self.levels.nearest(self.location + self.scale * torch.randn_like(self.location))
