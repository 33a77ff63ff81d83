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
    """How categories are drawn from logits.

    Args:
        temperature: divides the logits; below 1 is more probable and less varied.
        top_k: draw among the k most probable categories only; None for all.
        top_p: draw among the fewest most probable categories that together reach this probability; None for all.
        seed: of the random numbers, or a generator to continue with; None uses torch's global one.

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
        """The source of the random numbers; a new one for a seed, so ask once for each sequence of draws."""
        return torch.Generator().manual_seed(self.seed) if isinstance(self.seed, int) else self.seed

    def filter(self, logits: Tensor) -> Tensor:
        """Return logits [..., K] after temperature, then top-k, then top-p."""
        return filtered(logits, self.temperature, self.top_k, self.top_p)


def tempered(logits: Tensor, temperature: float) -> Tensor:
    """Logits [..., K] divided by the temperature: below 1 sharpens the distribution, above 1 flattens it.

    Raises:
        NarrowsError: if `temperature` is not above 0.
    """
    if not temperature > 0:
        raise NarrowsError(f"temperature must be above 0, got {temperature}; for the most probable code use top_k=1")
    return logits / temperature


def top_k_filtered(logits: Tensor, k: int) -> Tensor:
    """Logits [..., K] with all but the `k` most probable codes excluded (minus infinity).

    Raises:
        NarrowsError: if `k` is below 1.
    """
    if k < 1:
        raise NarrowsError(f"top_k must be at least 1, got {k}; leave it out to keep all codes")
    values, indices = logits.topk(min(k, logits.shape[-1]))
    return torch.full_like(logits, -torch.inf).scatter(-1, indices, values)


def top_p_filtered(logits: Tensor, p: float) -> Tensor:
    """Logits [..., K] with all but the fewest most probable codes that together reach probability `p` excluded.

    Raises:
        NarrowsError: if `p` is not in (0, 1].
    """
    if not 0 < p <= 1:
        raise NarrowsError(f"top_p must be above 0 and at most 1, got {p}; leave it out to keep all codes")
    ordered, indices = logits.sort(descending=True)
    probabilities = ordered.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities
    return torch.empty_like(logits).scatter(-1, indices, ordered.masked_fill(before >= p, -torch.inf))


def filtered(logits: Tensor, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None) -> Tensor:
    """Logits [..., K] after temperature, then top-k, then top-p; each is left out at its default.

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
    """The codes [B] at which the cumulative probability of logits [B, K] passes uniform numbers [B, 1] in [0, 1).

    A code of probability zero is never drawn: `uniform` is scaled by the total, so that rounding cannot carry it past.
    """
    cumulative = logits.softmax(-1).cumsum(-1)
    return torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True).squeeze(1)


def require_finite(network: nn.Module, name: str) -> None:
    """Look at the weights before codes or levels are drawn; of each step's logits, a look would make a GPU wait.

    Raises:
        NarrowsError: if one is not finite.
    """
    if not torch.stack([weight.isfinite().all() for weight in network.parameters()]).all():
        raise NarrowsError(f"the {name}'s weights are not finite: its training diverged, so train it again")
