"""Sampling settings, and drawing from logits by inverting their cumulative distribution.

The settings apply wherever categories are drawn one at a time: codes from a learned prior, and data from an
autoregressive decoder. Top-k: Fan et al. 2018, "Hierarchical neural story generation"; top-p (nucleus): Holtzman et al.
2020, "The curious case of neural text degeneration".
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from narrows.errors import NarrowsError

__all__ = ["Sampling", "draw", "filtered", "require_finite", "tempered", "top_k_filtered", "top_p_filtered"]


@dataclass(frozen=True)
class Sampling:
    """Settings for drawing categories from logits.

    Args:
        temperature: divisor of the logits; below 1, draws are more probable and less varied.
        top_k: number of most probable categories to draw from; None for all.
        top_p: probability that the categories to draw from, the fewest and most probable, reach together; None for all.
        seed: seed of the random numbers, or a generator to continue with; None for torch's global CPU generator.

    Raises:
        NarrowsError: if a setting is out of range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int | torch.Generator | None = None

    def __post_init__(self) -> None:
        filtered(torch.zeros(2), self.temperature, self.top_k, self.top_p)

    @property
    def generator(self) -> torch.Generator | None:
        """The source of the random numbers; each access with an integer seed makes a new one that starts again."""
        return torch.Generator().manual_seed(self.seed) if isinstance(self.seed, int) else self.seed

    def filter(self, logits: Tensor) -> Tensor:
        """Return logits [..., K] after temperature, then top-k, then top-p."""
        return filtered(logits, self.temperature, self.top_k, self.top_p)


def tempered(logits: Tensor, temperature: float) -> Tensor:
    """Return logits [..., K] divided by the temperature: below 1 sharpens the distribution, above 1 flattens it.

    Raises:
        NarrowsError: if `temperature` is not above 0.
    """
    if not temperature > 0:
        raise NarrowsError(
            f"temperature must be above 0, got {temperature}; for the most probable category use top_k=1"
        )
    return logits / temperature


def top_k_filtered(logits: Tensor, k: int) -> Tensor:
    """Return logits [..., K] with all but the `k` most probable categories excluded (minus infinity).

    Raises:
        NarrowsError: if `k` is below 1.
    """
    if k < 1:
        raise NarrowsError(f"top_k must be at least 1, got {k}; leave it out to keep all categories")
    values, indices = logits.topk(min(k, logits.shape[-1]))
    return torch.full_like(logits, -torch.inf).scatter(-1, indices, values)


def top_p_filtered(logits: Tensor, p: float) -> Tensor:
    """Return logits [..., K] with all but the fewest most probable categories that reach probability `p` excluded.

    Raises:
        NarrowsError: if `p` is not in (0, 1].
    """
    if not 0 < p <= 1:
        raise NarrowsError(f"top_p must be above 0 and at most 1, got {p}; leave it out to keep all categories")
    ordered, indices = logits.sort(descending=True)
    probabilities = ordered.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities
    return torch.empty_like(logits).scatter(-1, indices, ordered.masked_fill(before >= p, -torch.inf))


def filtered(logits: Tensor, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None) -> Tensor:
    """Return logits [..., K] after temperature, then top-k, then top-p; defaults change nothing.

    Raises:
        NarrowsError: if a setting is out of range.
    """
    if temperature != 1:
        logits = tempered(logits, temperature)
    if top_k is not None:
        logits = top_k_filtered(logits, top_k)
    if top_p is not None:
        logits = top_p_filtered(logits, top_p)
    return logits


def draw(logits: Tensor, uniform: Tensor) -> Tensor:
    """Return the categories [*] at which the cumulative probability of logits [*, K] exceeds `uniform` [*, 1].

    `uniform` lies in [0, 1). It is scaled by the total probability, so that in spite of rounding a category of
    probability zero is never drawn.
    """
    cumulative = logits.softmax(-1).cumsum(-1)
    return torch.searchsorted(cumulative, uniform * cumulative[..., -1:], right=True).squeeze(-1)


def require_finite(network: nn.Module, name: str) -> None:
    """Check that all weights are finite, once before drawing: a check of the logits of each step would stall a GPU.

    Args:
        network: the network to draw from.
        name: its name in the message, such as "prior".

    Raises:
        NarrowsError: if a weight is not finite.
    """
    if not torch.stack([weight.isfinite().all() for weight in network.parameters()]).all():
        raise NarrowsError(f"the {name}'s weights are not finite: its training diverged, so train it again")
