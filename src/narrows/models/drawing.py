"""Sampling from an autoregressive decoder, level by level: one cached step and one uniform random number per level."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from narrows.networks import AutoregressiveDecoder
from narrows.sampling import Sampling, draw, require_finite

__all__ = ["draw_levels"]


def draw_levels(
    decoder: AutoregressiveDecoder,
    z: Tensor,
    condition: Tensor | None,
    length: int,
    sampling: Sampling,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Draw the levels of data, in full precision even under autocast.

    Each example has its own random numbers, so the first ones do not depend on how many examples follow or how long
    they are.

    Args:
        decoder: gives the logits of each level from those before it.
        z: latents [B, channels, N].
        condition: the class of each example, int64 [B], -1 if unknown; None without classes.
        length: T, number of positions to draw.
        sampling: how levels are drawn from their logits.
        progress: called after each position with the number of positions done and T.

    Returns:
        int64 [B, T].

    Raises:
        NarrowsError: if the decoder's weights are not finite.
    """
    require_finite(decoder, "decoder")
    levels: list[Tensor] = []
    with torch.inference_mode(), torch.autocast(z.device.type, enabled=False):
        uniforms = _uniforms(len(z), length, sampling.generator).to(z.device)
        state = decoder.begin(z.float(), condition)
        for uniform in uniforms.t().contiguous().unsqueeze(-1):
            logits = state.step(levels[-1] if levels else None)
            levels.append(draw(sampling.filter(logits), uniform))
            if progress is not None:
                progress(len(levels), length)
    return torch.stack(levels, 1)


def _uniforms(examples: int, length: int, generator: torch.Generator | None) -> Tensor:
    """Draw uniform numbers [`examples`, `length`], each row from its own generator."""
    source = "cpu" if generator is None else generator.device
    seeds = torch.randint(2**62, (examples,), generator=generator, device=source)
    return torch.stack([torch.rand(length, generator=torch.Generator().manual_seed(seed)) for seed in seeds.tolist()])
