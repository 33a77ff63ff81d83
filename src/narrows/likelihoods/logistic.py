"""Logistic pixels on discrete levels: P(x) = sigmoid((x + w/2 - mu) / s) - sigmoid((x - w/2 - mu) / s), bin width w.

The two edge bins include the tails, so the probabilities sum to one (Salimans et al. 2017, PixelCNN++, 2.1).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from narrows.likelihoods.levels import Levels
from narrows.likelihoods.likelihood import LevelLikelihood, Observation

__all__ = ["DiscretizedLogistic", "clipped_mean", "draw", "log_bin", "positive_scale"]


def positive_scale(raw: Tensor, levels: Levels) -> Tensor:
    """Return the scale w/20 + softplus(raw) / 10, [*]; at the lower bound, a level at mu still has probability 0.9999.

    The factor 1/10 makes training start near 0.07, a typical spread in photographs, not as wide as the whole range.
    """
    return levels.width / 20 + F.softplus(raw) / 10


def log_bin(x: Tensor, location: Tensor, scale: Tensor, levels: Levels) -> Tensor:
    """Return the log-probability of the levels x under logistic distributions, in nats; the shapes broadcast.

    It uses sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)), so no digits cancel, even far out.
    """
    half = levels.width / 2
    up_to_x = F.logsigmoid((x - location + half) / scale)
    from_x = F.logsigmoid((location - x + half) / scale)
    inside = up_to_x + from_x + torch.log(-torch.expm1(-levels.width / scale))
    return torch.where(x < half, up_to_x, torch.where(x > 1 - half, from_x, inside))


def clipped_mean(location: Tensor, scale: Tensor) -> Tensor:
    """Return the mean of logistic variables clipped to [0, 1], [*]: within w/2 of the mean level, its midpoint rule.

    The integral of 1 - F over [0, 1] is s softplus(mu / s) - s softplus((mu - 1) / s), computed without cancellation.
    """
    below = scale * F.softplus(-location.abs() / scale)
    above = scale * F.softplus(-(location - 1).abs() / scale)
    return location.clamp(0, 1) + below - above


def draw(location: Tensor, scale: Tensor, levels: Levels) -> Tensor:
    """Draw levels from logistic distributions, [*]."""
    return levels.nearest(location + scale * torch.rand_like(location).logit())


class DiscretizedLogistic(LevelLikelihood):
    """Independent discretised logistic pixels: mu = 1/2 + out_1, s = w/20 + softplus(out_2) / 10 in every dimension.

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
        return _Observation(0.5 + offset, positive_scale(raw_scale, self.levels), self.levels)


class _Observation(Observation):
    def __init__(self, location: Tensor, scale: Tensor, levels: Levels) -> None:
        super().__init__(location.shape)
        self.location = location
        self.scale = scale
        self.levels = levels

    def _log_terms(self, x: Tensor) -> Tensor:
        return log_bin(self.levels.snap(x), self.location, self.scale, self.levels)

    @property
    def values(self) -> Tensor:
        return self.levels.values(self.location.device)

    def log_pmf(self, x: Tensor | None = None) -> Tensor:
        return log_bin(self.values, self.location.unsqueeze(-1), self.scale.unsqueeze(-1), self.levels)

    @property
    def mean(self) -> Tensor:
        return clipped_mean(self.location, self.scale)

    def sample(self) -> Tensor:
        return draw(self.location, self.scale, self.levels)
