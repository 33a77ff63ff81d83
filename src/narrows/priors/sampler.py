"""Sampling from a learned prior, code by code: each costs one incremental step and one uniform random number.

A code is drawn by inverting the cumulative distribution of its filtered logits. Top-k: Fan et al. 2018, "Hierarchical
neural story generation"; top-p (nucleus): Holtzman et al. 2020, "The curious case of neural text degeneration".
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from narrows.errors import NarrowsError
from narrows.priors.prior import Prior

__all__ = ["draw", "filtered", "require_finite", "sample", "tempered", "top_k_filtered", "top_p_filtered"]


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


def sample(
    prior: Prior,
    batch: int,
    labels: Tensor | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Draw codes from p(codes | label), one incremental step a code, in full precision whatever the autocast.

    All random numbers are drawn at the start, one uniform for each code: those of the first example in the order of its
    codes, then those of the second, and so on. An example is thus the same however many follow it in the batch.

    Args:
        prior: the prior to sample from.
        batch: B, the number of examples.
        labels: the class of each example, [B]; None for an unconditional prior.
        temperature: divides the logits.
        top_k: draw among the k most probable codes only.
        top_p: draw among the fewest codes that together reach this probability only.
        generator: source of the random numbers; by default the CPU's global one.
        progress: called after each code with the number of codes done and their total.

    Returns:
        Codes [B, *grid], or [B, *grid, M] where the prior has M > 1 codes per position.

    Raises:
        NarrowsError: if a setting is out of range, labels do not fit the prior, or its weights are not finite.
    """
    require_finite(prior, "prior")
    device = next(prior.parameters()).device
    source = "cpu" if generator is None else generator.device
    codes: list[Tensor] = []
    with torch.inference_mode(), torch.autocast(device.type, enabled=False):
        uniforms = torch.rand(batch, prior.length, generator=generator, device=source).to(device)
        state = prior.begin(batch, labels)
        for uniform in uniforms.t().contiguous().unsqueeze(-1):
            logits = prior.step(state, codes[-1] if codes else None)
            codes.append(draw(filtered(logits, temperature, top_k, top_p), uniform))
            if progress is not None:
                progress(len(codes), prior.length)
    return torch.stack(codes, 1).view(batch, *prior.code_shape)
