"""What a model says of a batch, log p(x|z), log q(z|x), log p(z) of S drawn latents, and the bounds on log p(x)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn

__all__ = ["Estimator", "Evidence", "elbo", "importance_weighted_bound"]


class Evidence(NamedTuple):
    """Log-probabilities in nats of S latents drawn for each of B examples."""

    log_likelihood: Tensor
    """log p(x|z), [S, B]."""
    log_q: Tensor
    """log q(z|x), [S, B]."""
    log_p: Tensor
    """log p(z), [S, B]."""
    rate: Tensor
    """KL(q(z|x) || p(z)) in closed form, [B]."""


def elbo(evidence: Evidence) -> Tensor:
    """E_q[log p(x|z)] - KL(q(z|x) || p(z)) of each example in nats, [B]; never above log p(x) in expectation."""
    return evidence.log_likelihood.mean(0) - evidence.rate


def importance_weighted_bound(evidence: Evidence) -> Tensor:
    """Log 1/S sum_s p(x, z_s) / q(z_s|x) of each example in nats, [B] (Burda et al. 2016, equation 8)."""
    log_weights = evidence.log_likelihood + evidence.log_p - evidence.log_q
    return log_weights.logsumexp(0) - math.log(len(log_weights))


class Estimator(nn.Module, ABC):
    """The loss whose gradient trains encoder and decoder.

    Attributes:
        samples: S, the latents it needs of each example.
    """

    samples: int

    @abstractmethod
    def forward(self, evidence: Evidence) -> Tensor:
        """The loss of each example in nats, [B]."""
