"""Diagonal Gaussians over feature maps, and the product of a prior and evidence, which is the posterior.

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

    def merged(self, features: Tensor) -> DiagonalGaussian:
        """Return the normalised product of this prior and evidence, as the distribution of (z - mean) / sigma.

        In those units the prior is N(0, 1), and the evidence is N(h v, v), where v is its variance divided by the
        prior's. Precisions 1 / variance add and weight the means, so the product has the variance s = v / (1 + v) and
        the mean h s. Its mean thus differs from the prior's by h sigma at most, even at the lowest precision (our
        choice; the papers do not specify it). If the features were the mean itself, their effect and their gradient
        would shrink with the precision, and a collapsed layer could not recover.

        Args:
            features: h and the raw log-variance of the evidence, [N, 2C, H, W].
        """
        slope, log_variance = DiagonalGaussian.read(features)
        ratio = log_variance - self.log_variance  # log v
        return DiagonalGaussian(slope * ratio.sigmoid(), F.logsigmoid(ratio))

    def placed(self, other: DiagonalGaussian) -> DiagonalGaussian:
        """Return the distribution of mean + sigma * u, where u follows `other`."""
        return DiagonalGaussian(self.at(other.mean), self.log_variance + other.log_variance)

    def at(self, noise: Tensor) -> Tensor:
        """Return mean + sigma * noise."""
        return torch.addcmul(self.mean, (self.log_variance / 2).exp(), noise)

    def noise(self, z: Tensor) -> Tensor:
        """Return (z - mean) / sigma, the inverse of `at`."""
        return (z - self.mean) * (-self.log_variance / 2).exp()

    def log_prob_at(self, noise: Tensor) -> Tensor:
        """Return the log-density of `at(noise)` in nats, [N]; exact, whereas (z - mean) / sigma would lose digits."""
        return -(noise**2 + (self.log_variance + log(2 * pi))).sum((1, 2, 3)) / 2

    def kl_to_standard(self) -> Tensor:
        """Return KL(self || N(0, I)) in nats, [N]."""
        return (self.mean**2 + self.log_variance.expm1() - self.log_variance).sum((1, 2, 3)) / 2
