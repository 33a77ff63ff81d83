"""Log-probabilities of a batch, log p(x|z), log q(z|x) and log p(z) of S drawn latents, and the bounds on log p(x)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from narrows.bottlenecks.posterior import NOTHING, Draw, Posterior, SampledPosterior
from narrows.errors import NarrowsError
from narrows.likelihoods import Observation

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
    """KL(q(z|x) || p(z)), [B]: exact where it has a closed form, else estimated from the latents drawn."""
    x: Tensor
    """The examples, [B, ...]."""
    observation: Observation | None = None
    """p(x|z) of all S B latents; None if they were not all described at once."""
    statistics: Mapping[str, Tensor] = NOTHING
    """Statistics of the draw, scalars by name."""
    layer_rates: Mapping[tuple[str, int], Tensor] = NOTHING
    """Rates of the layers of the draw, by group and number."""
    mask: Tensor | None = None
    """Positions of x that count, bool [B, *size]; None if all do."""
    terms: Mapping[str, Tensor] = NOTHING
    """Terms whose sum is the log-likelihood, by name, [S, B], without gradient; {} if it has no terms."""

    def squared_error(self) -> Tensor:
        """Return ||x - E[x|z]||^2 for each latent, summed over the dimensions of x, [S, B].

        Raises:
            NarrowsError: if there is no `observation`.
        """
        if self.observation is None:
            raise NarrowsError("the squared error needs the mean of p(x|z), but this evidence has no observation")
        means = self.observation.mean.unflatten(0, self.log_q.shape)
        errors = (means - self.x).square()
        if self.mask is not None:
            errors = errors.where(self.mask.unsqueeze(1), 0)
        return errors.flatten(2).sum(2)


def elbo(evidence: Evidence) -> Tensor:
    """Return E_q[log p(x|z)] - KL(q(z|x) || p(z)) of each example in nats, [B]; at most log p(x) in expectation."""
    return evidence.log_likelihood.mean(0) - evidence.rate


def importance_weighted_bound(evidence: Evidence) -> Tensor:
    """Return log 1/S sum_s p(x, z_s) / q(z_s|x) of each example in nats, [B] (Burda et al. 2016, equation 8)."""
    log_weights = evidence.log_likelihood + evidence.log_p - evidence.log_q
    return log_weights.logsumexp(0) - math.log(len(log_weights))


class Estimator(nn.Module, ABC):
    """Base class of estimators: the loss whose gradient trains encoder and decoder, and the draw of its latents.

    Args:
        samples: S, the number of latents drawn for each example.
        least: smallest S allowed.

    Attributes:
        samples: S.
        figures: figures of the last call to log, scalars by name without gradient.

    Raises:
        NarrowsError: if `samples` is below `least`.
    """

    def __init__(self, samples: int, least: int = 1) -> None:
        super().__init__()
        if samples < least:
            raise NarrowsError(f"{type(self).__name__}.samples is {samples}: it must be at least {least}")
        self.samples = samples
        self.figures: dict[str, Tensor] = {}

    def draw(self, posterior: Posterior) -> Draw:
        """Draw S latents of each example, with a gradient through them.

        Raises:
            NarrowsError: if no gradient passes through the latents of this posterior.
        """
        if isinstance(posterior, SampledPosterior):
            raise NarrowsError(
                f"{type(self).__name__} needs a gradient through the latents, but those of a "
                f"{type(posterior).__name__} have none: use an estimator such as DAPS or StraightThroughGumbel"
            )
        return posterior.draw(self.samples)

    @abstractmethod
    def forward(self, evidence: Evidence) -> Tensor:
        """Return the loss of each example in nats, [B]; its gradient is the estimator's."""

    def require_sampled(self, posterior: Posterior) -> SampledPosterior:
        """Return the posterior itself after checking that it samples codes.

        Raises:
            NarrowsError: if it does not.
        """
        if not isinstance(posterior, SampledPosterior):
            raise NarrowsError(
                f"{type(self).__name__} estimates the gradient of sampled codes, but a {type(posterior).__name__} "
                "samples none: use a bottleneck such as Categorical, or the estimator Pathwise"
            )
        return posterior
