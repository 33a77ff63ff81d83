"""Sampling from a learned prior, code by code: each costs one incremental step and one uniform random number."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from narrows.priors.prior import Prior
from narrows.sampling import draw, filtered, require_finite

__all__ = ["sample"]


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
