"""Diagonal Gaussians over feature maps, and their product, which combines a prior and evidence into a posterior.

Merging by precision: C. K. Sønderby et al., "Ladder Variational Autoencoders" (2016), equations 17 to 19.
"""

from __future__ import annotations

from math import log, pi
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from narrows.bottlenecks.gaussian import LOG_VARIANCE_LIMIT

__all__ = ["DiagonalGaussian"]


class DiagonalGaussian(NamedTuple):
    """N(mean, exp(log_variance)), independent in every dimension, from tensors [N, C, H, W]."""

    mean: Tensor
    log_variance: Tensor

    @classmethod
    def read(cls, features: Tensor) -> DiagonalGaussian:
        """Build it from means and raw log-variances [N, 2C, H, W], bounded as in `Gaussian`; in float32."""
        mean, raw = features.float().chunk(2, dim=1)
        return cls(mean, raw / (1 + raw.abs() / LOG_VARIANCE_LIMIT))

    def evidence(self, features: Tensor) -> DiagonalGaussian:
        """Return the evidence about a latent of this prior, from features [N, 2C, H, W]: h and a raw log-variance.

        The mean is the prior's + h variance / sigma_prior, which moves the posterior's mean by h sigma_prior at most,
        even at the lowest precision (our choice; the papers do not specify it). If the features were the mean itself,
        their effect and their gradient would shrink with the precision, and a collapsed layer could not recover.
        """
        slope, log_variance = DiagonalGaussian.read(features)
        return DiagonalGaussian(self.mean + slope * (log_variance - self.log_variance / 2).exp(), log_variance)

    def merged(self, evidence: DiagonalGaussian) -> DiagonalGaussian:
        """Return the normalised product of both: precisions 1/sigma^2 add, and weight the means."""
        # Log ratio of the evidence's precision to this one's; computing the precisions themselves could overflow.
        ratio = self.log_variance - evidence.log_variance
        return DiagonalGaussian(
            torch.lerp(self.mean, evidence.mean, ratio.sigmoid()), self.log_variance - F.softplus(ratio)
        )

    def at(self, noise: Tensor) -> Tensor:
        """Return mean + sigma * noise."""
        return self.mean + (self.log_variance / 2).exp() * noise

    def log_prob_at(self, noise: Tensor) -> Tensor:
        """Return the log-density of `at(noise)` in nats, [N]; exact, whereas (z - mean) / sigma would lose digits."""
        return -(noise**2 + self.log_variance + log(2 * pi)).sum((1, 2, 3)) / 2

    def log_prob(self, z: Tensor) -> Tensor:
        """Return the log-density of z in nats, [N]."""
        return self.log_prob_at((z - self.mean) * (-self.log_variance / 2).exp())

    def kl(self, prior: DiagonalGaussian) -> Tensor:
        """Return KL(self || prior) in nats, [N]."""
        ratio = self.log_variance - prior.log_variance
        distance = (self.mean - prior.mean) ** 2 * (-prior.log_variance).exp()
        return (distance + ratio.expm1() - ratio).sum((1, 2, 3)) / 2
