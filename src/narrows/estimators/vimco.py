"""VIMCO: the score-function gradient of the S-sample bound, with each sample's baseline made from the others.

A. Mnih, D. Rezende, "Variational Inference for Monte Carlo Objectives" (2016).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from narrows.estimators.evidence import Evidence, importance_weighted_bound
from narrows.estimators.score import ScoreEstimator, gradient_only

__all__ = ["VIMCO"]


class VIMCO(ScoreEstimator):
    """Minus the importance-weighted bound L = log 1/S sum_s f_s of sampled codes, with f_s = p(x, z_s) / q(z_s|x).

    The gradient of L is sum_s (L - L_-s) d log q(z_s|x) + sum_s w_s d log f_s, with w_s = f_s / sum_j f_j; L_-s is L
    with f_s replaced by the geometric mean of the others.

    Args:
        samples: S, the number of codes drawn for each example.

    Raises:
        NarrowsError: if `samples` is below 2.
    """

    def __init__(self, samples: int = 50) -> None:
        super().__init__(samples, least=2)

    def forward(self, evidence: Evidence) -> Tensor:
        """Return -log 1/S sum_s f_s, [B] nats."""
        bound = importance_weighted_bound(evidence)
        log_f = (evidence.log_likelihood + evidence.log_p - evidence.log_q).detach()
        samples = len(log_f)
        others = (log_f.sum(0) - log_f) / (samples - 1)
        replaced = torch.eye(samples, dtype=torch.bool, device=log_f.device).unsqueeze(2)
        left_out = torch.where(replaced, others, log_f.unsqueeze(1)).logsumexp(0) - math.log(samples)
        weights = log_f.softmax(0)
        self.figures = {"ess": 1 / (samples * weights.square().sum(0)).mean()}
        return -bound - gradient_only(((bound.detach() - left_out) * evidence.log_q).sum(0))
