"""Gumbel-Rao: the straight-through gradient averaged over the Gumbel noise that leads to the same category.

M. Paulus, C. Maddison, A. Krause, "Rao-Blackwellizing the Straight-Through Gumbel-Softmax Gradient Estimator" (2021).
The value depends on the category alone, so averaging over the rest of the noise lowers the variance of the gradient and
keeps its expectation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from narrows.errors import NarrowsError
from narrows.estimators.relaxed import GumbelSoftmax, log_exponential, one_hot

__all__ = ["GumbelRao", "conditional_gumbel"]


class GumbelRao(GumbelSoftmax):
    """The Monte Carlo estimator GR-MCK; the decoder runs once per category, however many draws are averaged over.

    Args:
        conditional_draws: M, the number of noise draws averaged over given each category (10, 100 or 1000 in the
            paper); with 1 the gradient has the distribution of the straight-through estimator's.
        temperature: tau of the first training step; a low one has less bias, and a large M lowers its variance.
        final_temperature: tau from step `annealing_steps` on.
        annealing_steps: training steps between the two.
        beta: weight of the KL.
        samples: S, the number of codes averaged over for each example.

    Raises:
        NarrowsError: if `conditional_draws` or `annealing_steps` is below 1, or a temperature is not above 0.
    """

    def __init__(
        self,
        conditional_draws: int = 10,
        temperature: float = 1.0,
        final_temperature: float = 0.5,
        annealing_steps: int = 10_000,
        beta: float = 1.0,
        samples: int = 1,
    ) -> None:
        super().__init__(temperature, final_temperature, annealing_steps, beta, samples)
        if conditional_draws < 1:
            raise NarrowsError(f"conditional_draws is {conditional_draws}: it must be at least 1")
        self.conditional_draws = conditional_draws

    def relax(self, logits: Tensor) -> Tensor:
        """Draw a category from logits [..., K], one-hot, with the gradient of the averaged relaxed weights."""
        category = (logits.detach() - log_exponential(logits)).argmax(-1)
        repeated = logits.expand(self.conditional_draws, *logits.shape)
        noise = conditional_gumbel(repeated.detach(), category) - repeated.detach()
        soft = ((repeated + noise) / self.temperature).softmax(-1).mean(0)
        return one_hot(category, logits) + (soft - soft.detach())


def conditional_gumbel(logits: Tensor, category: Tensor) -> Tensor:
    """Draw logits + Gumbel noise, [M, ..., K], given that the largest entry is at `category` [...].

    With E ~ Exp(1) and Z = sum_j exp(l_j), the entry at category i is -log E_i + log Z and the others are
    -log(E_j / exp(l_j) + E_i / Z).
    """
    exponential = log_exponential(logits)
    index = category.expand(logits.shape[:-1]).unsqueeze(-1)
    top = exponential.gather(-1, index) - logits.logsumexp(-1, keepdim=True)
    others = torch.logaddexp(exponential - logits, top)
    return -others.scatter(-1, index, top)
