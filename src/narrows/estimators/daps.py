"""DAPS: treats the encoder as a policy and improves it by weighted maximum likelihood within a trust region.

M. Drolet, F. Al-Hafez, A. Bhatt, J. Peters, O. Arenz, "Discrete Variational Autoencoding via Policy Search".
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from narrows.distributed import global_sum
from narrows.errors import NarrowsError
from narrows.estimators.evidence import Evidence
from narrows.estimators.score import ScoreEstimator, gradient_only
from narrows.waiting import LateReader

__all__ = ["DAPS", "Target"]

logger = logging.getLogger(__name__)

# The search for log eta starts from 12 decades; five rounds that each keep one of 15 intervals leave an error of 4e-5.
_SPAN = 12 * math.log(10)
_ROUNDS = 5
_POINTS = 16
_LOOK_EVERY = 100


class Target(NamedTuple):
    """The policy q* that the encoder imitates."""

    weights: Tensor
    """w_s of each sample, [S, B]; they sum to one over the S samples of an example."""
    eta: Tensor
    """Multiplier of the trust region, a scalar."""
    ess: Tensor
    """ESS/S = 1 / (S sum_s w_s^2) of each example, [B]."""


class DAPS(ScoreEstimator):
    """Weighted maximum likelihood for the encoder and plain maximum likelihood for the decoder.

    The q that maximises E_q[log p(x|z)] + beta H(q) with KL(q || q_theta) bounded is
    q*(z|x) ~ q_theta(z|x) exp((log p(x|z) - beta log q_theta(z|x)) / (eta + beta)): samples of q_theta weighted by
    w_s ~ exp((log p(x|z_s) - beta log q_theta(z_s|x)) / (eta + beta)). (The advantage, log p(x|z_s) minus its mean over
    the samples, gives the same weights.) The multiplier eta >= 0 is set so that ESS/S, averaged over the global batch,
    equals `ess_target`; it is 0 if ESS/S exceeds the target even at eta = 0. The encoder's loss is
    -sum_s w_s log q_theta(z_s|x). The decoder's is -mean_s log p(x|z_s), averaged over the samples whose log-likelihood
    is finite, and zero if none is; with `decoder_samples`, over the first of them only.

    The control variate is an addition of this package. The samples come from q_theta itself, so the mean of their
    scores d log q_theta has expectation zero and can be subtracted. The encoder's loss is then
    -sum_s (w_s - 1/S) log q_theta(z_s|x), with the same expected gradient and less variance. Without it the encoder
    also imitates its own samples, good or bad, a random walk that reduces its entropy.

    As S grows, ESS/S of an example tends to exp(-D_2(q* || q_theta)), so KL(q* || q_theta) <= -log(ESS/S). The figures
    are `eta` and the batch means of `ess` (ESS/S), `target_kl` (KL of q* to q_theta, from the weights, in nats) and
    `even` (the share of examples whose samples all have the same log-likelihood, which give no signal).

    Args:
        beta: weight of the entropy.
        ess_target: target ESS/S, in (1 / `samples`, 1); near 1 for small steps.
        samples: S, the number of codes drawn for each example.
        control_variate: whether to subtract the mean score; the published method does not.
        decoder_samples: the number of samples that the decoder learns from, without bias; None for all, as published.

    Raises:
        NarrowsError: if `samples` is below 2, `beta` below 0, or `ess_target` or `decoder_samples` out of range.
    """

    troubled: Tensor

    def __init__(
        self,
        beta: float = 0.01,
        ess_target: float = 0.5,
        samples: int = 8,
        control_variate: bool = True,
        decoder_samples: int | None = None,
    ) -> None:
        super().__init__(samples, 2, decoder_samples)
        if not beta >= 0:
            raise NarrowsError(f"beta is {beta}: it must be at least 0")
        if not 1 / samples < ess_target < 1:
            raise NarrowsError(f"ess_target is {ess_target}: it must be between 1 / samples = {1 / samples:.3g} and 1")
        self.beta, self.ess_target = beta, ess_target
        self.uniform = 1 / samples if control_variate else 0.0
        self.batches = 0
        self._read = LateReader()
        self.register_buffer("troubled", torch.zeros((), dtype=torch.long), persistent=False)

    def forward(self, evidence: Evidence) -> Tensor:
        """Return -E_q[log p(x|z)] + beta KL, [B] nats, which the step lowers; its gradient is that of both losses."""
        target = self.target(evidence)
        divergence = math.log(self.samples) - torch.special.entr(target.weights).sum(0)
        even = evidence.log_likelihood.amax(0) == evidence.log_likelihood.amin(0)
        if self.training:
            self._watch(evidence.log_likelihood, even)
        figures = {"ess": target.ess, "eta": target.eta, "target_kl": divergence, "even": even.float()}
        self.figures = {name: values.mean() for name, values in figures.items()}
        objective = self.beta * evidence.rate.detach() - self.average(evidence.log_likelihood, _finite_mean)
        return objective - gradient_only(((target.weights - self.uniform) * evidence.log_q).sum(0))

    @torch.no_grad()
    def target(self, evidence: Evidence) -> Target:
        """Return the sample weights; 0 for a non-finite log-likelihood, unless no sample of its example is finite."""
        scores = evidence.log_likelihood - self.beta * evidence.log_q
        finite = scores.isfinite()
        scores = scores.masked_fill(~finite, -math.inf)
        scores = (scores - scores.amax(0)).masked_fill(~finite.any(0), 0)
        spread = -scores.masked_fill(~finite, 0).amin(0)
        count = global_sum(spread.new_full((), len(spread)))

        def mean_ess(temperatures: Tensor) -> Tensor:
            return global_sum(_ess(scores, temperatures).sum(1)) / count

        eta = self._eta(mean_ess, global_sum(spread.sum()))
        weights = (scores / _positive(eta + self.beta)).softmax(0)
        return Target(weights, eta, 1 / (self.samples * weights.square().sum(0)))

    def _eta(self, mean_ess: Callable[[Tensor], Tensor], spread: Tensor) -> Tensor:
        """Return the eta at which the mean ESS/S meets the target.

        A bisection with several points at once, so that each round is one pass and one sum over the processes.

        Args:
            mean_ess: mean ESS/S at given temperatures eta + beta, with which it rises.
            spread: bound on the differences between the scores of an example.
        """
        # At a temperature of spread / -log(target) no two weights differ by more than a factor 1 / target.
        high = _positive(spread / -math.log(self.ess_target)).log()
        low = high - _SPAN
        fractions = torch.linspace(0, 1, _POINTS, dtype=spread.dtype, device=spread.device)
        for _ in range(_ROUNDS):
            points = torch.lerp(low, high, fractions)
            short = mean_ess(_positive(points.exp() + self.beta)) < self.ess_target
            last = short.sum().clamp(1, _POINTS - 1)
            low, high = points.index_select(0, torch.stack([last - 1, last])).unbind()
        unbounded = mean_ess(_positive(spread.new_full((1,), self.beta))) >= self.ess_target
        return torch.where(unbounded, 0, high.exp()).squeeze(0)

    def _watch(self, log_likelihood: Tensor, even: Tensor) -> None:
        """Warn if all examples of a batch are `even`, [B], or if any log-likelihood, [S, B], is not finite."""
        self.troubled += even.all() | ~log_likelihood.isfinite().all()
        if self.batches % _LOOK_EVERY == 0:
            looked_at = torch.full_like(self.troubled, min(self.batches + 1, _LOOK_EVERY))
            found = self._read(torch.stack([self.troubled, looked_at]))
            self.troubled.zero_()
            if found is not None and found[0]:
                logger.warning(
                    "DAPS: in %d of %d batches in a row the log-likelihoods were infinite, or did not depend on the "
                    "codes: there is nothing to learn from those",
                    *found,
                )
        self.batches += 1


def _finite_mean(values: Tensor) -> Tensor:
    """Return the mean over S of the finite values of [S, B], as [B]; 0 where there are none."""
    finite = values.isfinite()
    return values.masked_fill(~finite, 0).sum(0) / finite.sum(0).clamp_min(1)


def _ess(scores: Tensor, temperatures: Tensor) -> Tensor:
    """Return ESS/S, [T, B], of the weights of scores [S, B], whose largest is 0, at T temperatures."""
    weights = (scores / temperatures.view(-1, 1, 1)).exp()
    return weights.sum(1).square() / (weights.square().sum(1) * len(scores))


def _positive(temperature: Tensor) -> Tensor:
    return temperature.clamp_min(torch.finfo(temperature.dtype).tiny)
