"""A mixture of K discretised logistics per pixel, shared by its channels (Salimans et al. 2017, PixelCNN++, 2.1-2.2).

In component k, mu_c = 1/2 + out_c + sum_{j<c} a_cj (x_j - 1/2): a channel depends on those before it in the same pixel.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from narrows.errors import NarrowsError
from narrows.likelihoods.levels import Levels
from narrows.likelihoods.likelihood import LevelLikelihood, Observation
from narrows.likelihoods.logistic import clipped_mean, draw, log_bin, positive_scale

__all__ = ["DiscretizedLogisticMixture"]


class DiscretizedLogisticMixture(LevelLikelihood):
    """K discretised logistics per pixel: each has a weight, C locations, C scales and C (C - 1) / 2 tanh coefficients.

    Args:
        channels: C, number of channels of the data.
        components: K, number of logistics in the mixture.
        levels: number of levels of the images; 256 for 8 bits.
    """

    learns_scale = True

    def __init__(self, channels: int, components: int = 10, levels: int = 256) -> None:
        sizes = [1, channels, channels, channels * (channels - 1) // 2]
        super().__init__(channels, features=components * sum(sizes))
        if components < 1:
            raise NarrowsError(f"components must be at least 1, not {components}")
        self.components = components
        self.sizes = sizes
        self.levels = Levels(levels)

    def _observe(self, out: Tensor) -> Observation:
        logits, offset, raw_scale, raw_coefficients = out.unflatten(1, (self.components, -1)).split(self.sizes, dim=2)
        scale = positive_scale(raw_scale, self.levels)
        return _Observation(logits.squeeze(2), 0.5 + offset, scale, raw_coefficients.tanh(), self.levels)


class _Observation(Observation):
    """Mixture with logits [B, K, *grid], location and scale [B, K, C, *grid], coefficients [B, K, C(C-1)/2, *grid]."""

    def __init__(self, logits: Tensor, location: Tensor, scale: Tensor, coefficients: Tensor, levels: Levels) -> None:
        super().__init__(location[:, 0].shape)
        self.channels = location.shape[2]
        self.log_weights = logits.log_softmax(1)
        self.location = location
        self.scale = scale
        self.coefficients = coefficients.split(list(range(self.channels)), dim=2)
        self.levels = levels

    def _conditional(self, channel: int, earlier: Tensor) -> Tensor:
        """Return a channel's location [B, K, *grid], given the values [B, K or 1, c, *grid] of the c before it."""
        return self.location[:, :, channel] + (self.coefficients[channel] * (earlier - 0.5)).sum(2)

    def _chain(self, rule: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Apply `rule(location, scale)` to each channel, given those before it in its component, [B, K, C, *grid]."""
        values = self.location[:, :, :0]
        for channel in range(self.channels):
            value = rule(self._conditional(channel, values), self.scale[:, :, channel])
            values = torch.cat([values, value.unsqueeze(2)], dim=2)
        return values

    def _log_terms(self, x: Tensor) -> Tensor:
        x = self.levels.snap(x).unsqueeze(1)
        location = torch.stack([self._conditional(c, x[:, :, :c]) for c in range(self.channels)], dim=2)
        log_component = log_bin(x, location, self.scale, self.levels).sum(2)
        return torch.logsumexp(self.log_weights + log_component, dim=1)

    @property
    def values(self) -> Tensor:
        return self.levels.values(self.location.device)

    def log_pmf(self, x: Tensor | None = None) -> Tensor:
        """Return the log-probability of every level of each channel, given the channels before it, [B, C, *grid, L].

        Raises:
            NarrowsError: if there are several channels and x is missing or has another shape.
        """
        if x is None:
            if self.channels > 1:
                raise NarrowsError(
                    f"each of the {self.channels} channels depends on those before it: pass the data to log_pmf(), "
                    "which reads only the earlier channels"
                )
            x = torch.zeros(self.shape, device=self.location.device)
        self._check_shape(x)
        given = self.levels.snap(x).unsqueeze(1)
        log_weights, found = self.log_weights, []
        for channel in range(self.channels):
            location, scale = self._conditional(channel, given[:, :, :channel]), self.scale[:, :, channel]
            every = log_bin(self.values, location.unsqueeze(-1), scale.unsqueeze(-1), self.levels)
            found.append((log_weights.unsqueeze(-1) + every).logsumexp(1) - log_weights.logsumexp(1).unsqueeze(-1))
            log_weights = log_weights + log_bin(given[:, :, channel], location, scale, self.levels)
        return torch.stack(found, 1)

    @property
    def mean(self) -> Tensor:
        """The mean of each channel at the means of those before it: exact if the tails stay within [0, 1]."""
        return (self.log_weights.exp().unsqueeze(2) * self._chain(clipped_mean)).sum(1)

    def sample(self) -> Tensor:
        component = torch.distributions.Categorical(logits=self.log_weights.movedim(1, -1)).sample()
        values = self._chain(lambda location, scale: draw(location, scale, self.levels))
        return values.take_along_dim(component[:, None, None], dim=1).squeeze(1)
