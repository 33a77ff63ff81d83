"""Gaussian pixels with a fixed, calibrated or learned scale, shared or per dimension; a bound for discrete images.

With u uniform over a bin of width w, log P(x) = log E_u[w N(x + u; mu, sigma^2)] >= E_u[log w N(x + u; mu, sigma^2)]:
uniform dequantisation (Theis et al. 2016, A note on the evaluation of generative models, section 3.1), one u per call.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from narrows.distributed import global_sum
from narrows.errors import NarrowsError
from narrows.likelihoods.levels import Levels
from narrows.likelihoods.likelihood import LevelLikelihood, Observation

__all__ = ["GaussianCalibrated", "GaussianFixed", "GaussianPerDimension", "GaussianShared"]

DECAY = 0.99
"""Step size of the moving average of the calibrated variance."""


def _least_scale(levels: Levels) -> float:
    """Return the lower bound on a learned scale: w/4, as the noise alone has standard deviation w / sqrt(12)."""
    return levels.width / 4


class GaussianFixed(LevelLikelihood):
    """N(x; 1/2 + out, sigma^2) with one fixed sigma; `log_prob` is a lower bound.

    Args:
        channels: C, number of channels of the data.
        scale: the standard deviation sigma, in units of the data's range [0, 1].
        levels: number of levels of the images; 256 for 8 bits.
    """

    def __init__(self, channels: int, scale: float = 0.1, levels: int = 256) -> None:
        super().__init__(channels, features=channels)
        if scale <= 0:
            raise NarrowsError(f"scale must be positive, not {scale}")
        self.levels = Levels(levels)
        self.scale = scale

    def _observe(self, out: Tensor) -> Observation:
        return _Observation(out, out.new_full((), self.scale), self.levels)


class GaussianCalibrated(LevelLikelihood):
    """N(x; 1/2 + out, sigma^2) with the maximum-likelihood sigma: sigma^2 is the mean squared error.

    In training mode every `log_prob` moves sigma^2 towards the error of the global batch; in eval mode it stays fixed.
    It needs no gradient, so it also works with losses that give it none, such as `DistortionTarget`. O. Rybkin, K.
    Daniilidis, S. Levine, "Simple and Effective VAE Training with Calibrated Decoders" (2021). `log_prob` is a lower
    bound.

    Args:
        channels: C, number of channels of the data.
        levels: number of levels of the images; 256 for 8 bits.
    """

    variance: Tensor
    seen: Tensor

    def __init__(self, channels: int, levels: int = 256) -> None:
        super().__init__(channels, features=channels)
        self.levels = Levels(levels)
        self.register_buffer("variance", torch.full((), 0.1**2))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def _observe(self, out: Tensor) -> Observation:
        return _CalibratedObservation(out, self)

    @torch.no_grad()
    def follow(self, squares: Tensor, counted: Tensor | None = None) -> None:
        """Move the variance towards the mean squared error over all processes, if finite; the first call sets it.

        Args:
            squares: [B, C, *grid].
            counted: True where a position counts, bool [B, *grid]; None if all do.
        """
        number = squares.new_full((), squares.numel())
        if counted is not None:
            squares = squares.where(counted.unsqueeze(1), 0)
            number = counted.sum() * number.new_full((), self.channels)
        total, count = global_sum(torch.stack([squares.sum(), number]))
        mean = total / count
        finite = mean.isfinite()
        self.seen += finite
        moved = torch.lerp(self.variance, mean, (1 / self.seen).clamp_min(1 - DECAY))
        self.variance.copy_(torch.where(finite, moved.clamp_min(_least_scale(self.levels) ** 2), self.variance))


class GaussianShared(LevelLikelihood):
    """N(x; 1/2 + out, sigma^2) with one learned sigma = w/4 + softplus(r); `log_prob` is a lower bound.

    Args:
        channels: C, number of channels of the data.
        scale: initial standard deviation sigma; more than w/4, a quarter of the distance between two levels.
        levels: number of levels of the images; 256 for 8 bits.
    """

    learns_scale = True

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


class GaussianPerDimension(LevelLikelihood):
    """N(x; 1/2 + out_1, sigma^2), sigma = w/4 + softplus(out_2) / 10 in each dimension; `log_prob` is a lower bound.

    Args:
        channels: C, number of channels of the data.
        levels: number of levels of the images; 256 for 8 bits.
    """

    learns_scale = True

    def __init__(self, channels: int, levels: int = 256) -> None:
        super().__init__(channels, features=2 * channels)
        self.levels = Levels(levels)

    def _observe(self, out: Tensor) -> Observation:
        offset, raw_scale = out.chunk(2, dim=1)
        return _Observation(offset, _least_scale(self.levels) + F.softplus(raw_scale) / 10, self.levels)


class _Observation(Observation):
    """Gaussian over images; samples are rounded to the nearest level, and the mean may lie outside [0, 1]."""

    def __init__(self, offset: Tensor, scale: Tensor, levels: Levels) -> None:
        super().__init__(offset.shape)
        self.location = 0.5 + offset
        self.scale = scale
        self.levels = levels

    def _log_terms(self, x: Tensor) -> Tensor:
        width = self.levels.width
        y = self.levels.snap(x) + width * (torch.rand_like(self.location) - 0.5)
        squares = (y - self.location) ** 2
        scale = self._scale_for(squares)
        return math.log(width / math.sqrt(2 * math.pi)) - scale.log() - squares / scale**2 / 2

    def _scale_for(self, squares: Tensor) -> Tensor:
        """Return the standard deviation, given the squared errors of the data being measured."""
        return self.scale

    @property
    def values(self) -> Tensor:
        return self.levels.values(self.location.device)

    def log_pmf(self, x: Tensor | None = None) -> Tensor:
        """Return the log-probability that each level is the nearest to a draw, [B, C, *grid, L].

        This is the probability of its bin, including the tail for the two edge levels, just as `sample` draws them.
        `log_prob` is, in expectation, a lower bound on it, because it leaves out the tails.
        """
        edges = (self.values[:-1] + self.values[1:]) / 2
        scale = self.scale.expand(self.shape).unsqueeze(-1)
        at = F.pad((edges - self.location.unsqueeze(-1)) / scale, (1, 1), value=math.inf)
        at[..., 0] = -math.inf
        below, above = at[..., :-1], at[..., 1:]
        # Floats are precise for small probabilities but not for those near 1, so bins on the right are mirrored.
        mirrored = below + above > 0
        low, high = torch.where(mirrored, -above, below), torch.where(mirrored, -below, above)
        up_to_high = torch.special.log_ndtr(high)
        return up_to_high + torch.log(-torch.expm1(torch.special.log_ndtr(low) - up_to_high))

    @property
    def mean(self) -> Tensor:
        return self.location

    def sample(self) -> Tensor:
        return self.levels.nearest(self.location + self.scale * torch.randn_like(self.location))


class _CalibratedObservation(_Observation):
    """Observation whose scale follows the errors of the data while the likelihood is trained."""

    def __init__(self, offset: Tensor, likelihood: GaussianCalibrated) -> None:
        super().__init__(offset, likelihood.variance.sqrt(), likelihood.levels)
        self.likelihood = likelihood
        self.counted: Tensor | None = None

    def log_prob(self, x: Tensor, counted: Tensor | None = None) -> Tensor:
        """Return the lower bound on log p(x|z) of the positions that count; in training, they calibrate the scale."""
        self.counted = counted
        return super().log_prob(x, counted)

    def _scale_for(self, squares: Tensor) -> Tensor:
        if self.likelihood.training:
            self.likelihood.follow(squares, self.counted)
            self.scale = self.likelihood.variance.sqrt()
        return self.scale
