"""Relaxed codes: softmax((logits + Gumbel noise) / temperature) in place of a sampled category or of its gradient.

E. Jang, S. Gu, B. Poole, "Categorical Reparameterization with Gumbel-Softmax" (2017), equation 2 and section 2.2;
C. Maddison, A. Mnih, Y. W. Teh, "The Concrete Distribution" (2017).
"""

from __future__ import annotations

import torch
from torch import Tensor

from narrows.bottlenecks.posterior import Draw, Posterior
from narrows.errors import NarrowsError
from narrows.estimators.pathwise import Pathwise

__all__ = ["GumbelSoftmax", "StraightThroughGumbel", "log_exponential", "one_hot"]


class GumbelSoftmax(Pathwise):
    """The negative ELBO of relaxed latents: smooth but biased, because the decoder is trained on mixtures of codes.

    The temperature falls exponentially, from `temperature` at the first draw in training mode to `final_temperature`
    after `annealing_steps` draws. The KL is that of the discrete codes.

    Args:
        temperature: tau of the first training step; a low one has less bias and more variance.
        final_temperature: tau from step `annealing_steps` on.
        annealing_steps: training steps between the two.
        beta: weight of the KL.
        samples: S, the number of relaxed latents averaged over for each example.

    Raises:
        NarrowsError: if a temperature is not above 0, or `annealing_steps` is below 1.
    """

    steps: Tensor

    def __init__(
        self,
        temperature: float = 1.0,
        final_temperature: float = 0.5,
        annealing_steps: int = 10_000,
        beta: float = 1.0,
        samples: int = 1,
    ) -> None:
        super().__init__(beta, samples)
        for name, value in {"temperature": temperature, "final_temperature": final_temperature}.items():
            if not value > 0:
                raise NarrowsError(f"{name} is {value}: it must be above 0")
        if annealing_steps < 1:
            raise NarrowsError(f"annealing_steps is {annealing_steps}: it must be at least 1")
        self.start, self.end, self.annealing_steps = temperature, final_temperature, annealing_steps
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    @property
    def temperature(self) -> Tensor:
        """Tau of the next draw, a scalar."""
        return self.start * (self.end / self.start) ** (self.steps / self.annealing_steps).clamp_max(1)

    def draw(self, posterior: Posterior) -> Draw:
        """Draw S relaxed latents of each example, and count the draw if in training mode.

        Raises:
            NarrowsError: if the posterior does not sample codes.
        """
        self.figures = {"temperature": self.temperature}
        draw = self.require_sampled(posterior).relaxed(self.relax, self.samples)
        if self.training:
            self.steps += 1
        return draw

    def relax(self, logits: Tensor) -> Tensor:
        """Draw weights over the K categories of logits [..., K]."""
        return ((logits - log_exponential(logits)) / self.temperature).softmax(-1)


class StraightThroughGumbel(GumbelSoftmax):
    """One-hot category of the largest weight in the forward pass, relaxed weights in the backward pass.

    Args:
        temperature: tau of the first training step; a low one has less bias and more variance.
        final_temperature: tau from step `annealing_steps` on.
        annealing_steps: training steps between the two.
        beta: weight of the KL.
        samples: S, the number of codes averaged over for each example.
    """

    def relax(self, logits: Tensor) -> Tensor:
        """Draw a category from logits [..., K], one-hot, with the gradient of the relaxed weights."""
        soft = super().relax(logits)
        return one_hot(soft.detach().argmax(-1), soft) + (soft - soft.detach())


def one_hot(category: Tensor, like: Tensor) -> Tensor:
    """Return one-hot weights [..., K] of categories [...], typed as `like` [..., K].

    PyTorch's own looks at the range of the categories, for which some devices are waited for.
    """
    return torch.zeros_like(like).scatter_(-1, category.unsqueeze(-1), 1)


def log_exponential(like: Tensor) -> Tensor:
    """Draw log E, E ~ Exp(1), in the shape of `like`; its negative is Gumbel noise."""
    drawn = like.new_empty(like.shape).exponential_()
    return drawn.clamp_min_(torch.finfo(like.dtype).tiny).log_()
