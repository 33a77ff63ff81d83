"""Sampling from an autoregressive decoder, position by position, with one uniform random number per value."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from narrows.likelihoods import DiscreteLikelihood
from narrows.networks import AutoregressiveDecoder
from narrows.sampling import Sampling, draw, require_finite

__all__ = ["draw_levels"]


def draw_levels(
    decoder: AutoregressiveDecoder,
    likelihood: DiscreteLikelihood,
    z: Tensor,
    condition: Tensor | None,
    length: int,
    sampling: Sampling,
    progress: Callable[[int, int], None] | None = None,
    past: Tensor | None = None,
) -> Tensor:
    """Draw the levels of data, in full precision even under autocast.

    Each example has its own random numbers, so the first ones do not depend on how many examples follow or how long
    they are.

    Args:
        decoder: gives the outputs for each position from the positions before it.
        likelihood: gives the logits of its levels from these outputs.
        z: latents [B, channels, N].
        condition: the class of each example, int64 [B], -1 if unknown; None without classes.
        length: T, number of positions to draw.
        sampling: how levels are drawn from their logits.
        progress: called after each position with the number of positions done and T.
        past: known levels to continue from, int64 [B, C, P]; the first position drawn is the one after them.

    Returns:
        int64 [B, C, T].

    Raises:
        NarrowsError: if the decoder's weights are not finite.
    """
    require_finite(decoder, "decoder")
    levels: list[Tensor] = []
    with torch.inference_mode(), torch.autocast(z.device.type, enabled=False):
        channels = likelihood.channels
        uniforms = _uniforms(len(z), length * channels, sampling.generator).to(z.device)
        state, level = decoder.begin(z.float(), condition), None
        for known in () if past is None else past.unbind(2):
            state.step(level)
            level = known if channels > 1 else known.squeeze(1)
        for uniform in uniforms.unflatten(1, (length, channels)).unbind(1):
            logits = sampling.filter(likelihood.logits(state.step(level)))
            level = draw(logits, uniform.view(*logits.shape[:-1], 1))
            levels.append(level.view(len(z), channels))
            if progress is not None:
                progress(len(levels), length)
    return torch.stack(levels, 2)


def _uniforms(examples: int, length: int, generator: torch.Generator | None) -> Tensor:
    """Draw `length` uniform numbers for each example, [`examples`, `length`], each row from its own generator."""
    source = "cpu" if generator is None else generator.device
    seeds = torch.randint(2**62, (examples,), generator=generator, device=source)
    return torch.stack([torch.rand(length, generator=torch.Generator().manual_seed(seed)) for seed in seeds.tolist()])
