"""The bottleneck of the VAE: q(z|x) = N(mu, diag sigma^2), z = mu + sigma eps, against p(z) = N(0, I).

Kingma & Welling 2014, Auto-Encoding Variational Bayes; KL in closed form, appendix B.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from narrows.bottlenecks.mask import hide
from narrows.bottlenecks.posterior import Bottleneck, Draw, Posterior
from narrows.errors import NarrowsError

__all__ = ["Gaussian", "GaussianPosterior"]

LOG_VARIANCE_LIMIT = 20.0
ACTIVE_NATS = 0.01


def _sum(terms: Tensor, start: int) -> Tensor:
    return terms.flatten(start).sum(start)


class GaussianPosterior(Posterior):
    """N(mean, exp(log_variance)), independent in every dimension, from tensors [B, C, *grid].

    The statistic `active_units` counts the dimensions whose KL, averaged over the batch, exceeds 0.01 nats. If masked,
    the average is over the examples in which the dimension's position counts.

    Args:
        mean: [B, C, *grid].
        log_variance: [B, C, *grid].
        mask: True where a position counts, bool [B, *grid]; None if all do.
    """

    def __init__(self, mean: Tensor, log_variance: Tensor, mask: Tensor | None = None) -> None:
        self.mean = mean
        self.log_variance = log_variance
        self.mask = None if mask is None else mask.unsqueeze(1)
        self.kl = self._counted((mean**2 + log_variance.expm1() - log_variance) / 2)
        self.losses = {}
        kl = self.kl.detach()
        average = kl.mean(0) if self.mask is None else kl.sum(0) / self.mask.sum(0).clamp_min(1)
        self.statistics = {"active_units": (average > ACTIVE_NATS).sum(dtype=torch.float32)}

    def _counted(self, terms: Tensor) -> Tensor:
        """Set terms [..., B, C, *grid] to zero at positions that do not count."""
        return terms if self.mask is None else terms.where(self.mask, 0)

    @property
    def rate(self) -> Tensor:
        """KL(q(z|x) || N(0, I)) in nats per example, [B]: sum of (mu^2 + sigma^2 - 1 - log sigma^2) / 2."""
        return _sum(self.kl, 1)

    @property
    def mode(self) -> Tensor:
        """The mean, [B, C, *grid]."""
        return self.mean

    def draw(self, samples: int = 1) -> Draw:
        """Draw z = mu + sigma eps, S for each example; z, log q and log p carry the pathwise gradient."""
        noise = torch.randn(samples, *self.mean.shape, dtype=self.mean.dtype, device=self.mean.device)
        z = self.mean + (self.log_variance / 2).exp() * noise
        constant = math.log(2 * math.pi)
        # (z - mu) / sigma is the noise itself; recomputing it from z would lose digits.
        log_q = -_sum(self._counted(noise**2 + self.log_variance + constant), 2) / 2
        log_p = -_sum(self._counted(z**2 + constant), 2) / 2
        return Draw(z, log_q, log_p, self.rate)


class Gaussian(Bottleneck):
    """Diagonal Gaussian latents: the encoder's features are C means and C raw log-variances r.

    log sigma^2 = r / (1 + |r| / 20) is the identity near zero and stays within (-20, 20). Its slope is never zero: no
    unit gets stuck, as can happen with a hard clamp. Everything is computed in float32, even under autocast.

    Args:
        channels: C, number of channels of the latents.
    """

    device_holder: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.features = 2 * channels
        # The module has no parameters, so `sample_prior` needs this buffer to find the device.
        self.register_buffer("device_holder", torch.empty(0), persistent=False)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> GaussianPosterior:
        """Return q(z|x) for encoder features [B, 2C, *grid]; see `Bottleneck.forward`.

        Raises:
            NarrowsError: if the number of channels is not 2C.
        """
        if features.shape[1] != self.features:
            raise NarrowsError(
                f"Gaussian needs {self.features} features from the encoder, not {features.shape[1]}: "
                "build the encoder with the bottleneck's `features`"
            )
        mean, raw = hide(features, mask).float().chunk(2, dim=1)
        return GaussianPosterior(mean, raw / (1 + raw.abs() / LOG_VARIANCE_LIMIT), mask)

    def sample_prior(self, batch: int, grid: tuple[int, ...]) -> Tensor:
        """Draw z [`batch`, C, *grid] from N(0, I)."""
        return torch.randn(batch, self.channels, *grid, device=self.device_holder.device)
