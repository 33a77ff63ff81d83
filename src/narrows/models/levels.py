"""Sound drawn from a WaveNet level by level, each at one cached step of the network and one uniform random number."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from narrows.networks import WaveNetDecoder
from narrows.sampling import draw, filtered, require_finite

__all__ = ["draw_levels"]


def draw_levels(
    decoder: WaveNetDecoder,
    z: Tensor,
    speakers: Tensor,
    samples: int,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """The mu-law levels of sounds, in full precision whatever the autocast.

    Each sound has random numbers of its own: the first are the same however many follow, and however long these are.

    Args:
        decoder: what says which level may be next.
        z: latents [B, channels, N].
        speakers: who speaks, int64 [B], -1 for one unknown.
        samples: T, N times the samples of a latent.
        temperature: divides the logits.
        generator: the source of the random numbers; by default the CPU's global one.
        progress: called after each sample with the samples done and T.

    Returns:
        int64 [B, T].

    Raises:
        NarrowsError: if the temperature is not above 0, or the decoder's weights are not finite.
    """
    require_finite(decoder, "decoder")
    levels: list[Tensor] = []
    with torch.inference_mode(), torch.autocast(z.device.type, enabled=False):
        uniforms = _uniforms(len(z), samples, generator).to(z.device)
        state = decoder.begin(z.float(), speakers)
        for uniform in uniforms.t().contiguous().unsqueeze(-1):
            logits = state.step(levels[-1] if levels else None)
            levels.append(draw(filtered(logits, temperature), uniform))
            if progress is not None:
                progress(len(levels), samples)
    return torch.stack(levels, 1)


def _uniforms(sounds: int, samples: int, generator: torch.Generator | None) -> Tensor:
    """Uniform numbers [`sounds`, `samples`], each row of a generator of its own: a longer row begins as a shorter."""
    source = "cpu" if generator is None else generator.device
    seeds = torch.randint(2**62, (sounds,), generator=generator, device=source)
    return torch.stack([torch.rand(samples, generator=torch.Generator().manual_seed(seed)) for seed in seeds.tolist()])
