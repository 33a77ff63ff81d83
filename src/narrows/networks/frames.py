"""Networks for pictures applied to every frame of a sequence of them, as in van den Oord et al. 2017, section 4.4.

The latents of a frame depend on no other frame, so a prior over the latents models all that happens in time, and one
more frame can be decoded without those before it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from narrows.networks.conv import ConvDecoder, ConvEncoder
from narrows.tracing import is_traced

__all__ = ["PerFrameDecoder", "PerFrameEncoder"]

AT_ONCE = 64
"""Frames that a network processes together when no gradient is needed, to bound the memory of long sequences."""


class PerFrameEncoder(nn.Module):
    """Frames [B, inputs, T, H, W] -> features [B, outputs, T, h, w], each frame by itself.

    Args:
        inputs: channels of a frame.
        outputs: feature channels.
        encoder: makes the network of a frame, [N, inputs, H, W] -> [N, outputs, h, w].

    Attributes:
        hop: frames per latent, 1.
    """

    hop = 1

    def __init__(self, inputs: int, outputs: int, encoder: Callable[[int, int], nn.Module] = ConvEncoder) -> None:
        super().__init__()
        self.encoder = encoder(inputs, outputs)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the features. Frames outside the mask, bool [B, T, H, W], affect no other, so it is not used."""
        return each_frame(self.encoder, x)


class PerFrameDecoder(nn.Module):
    """Latents [B, latents, T, h, w] -> likelihood parameters [B, outputs, T, H, W], each frame by itself.

    Args:
        latents: latent channels.
        outputs: channels of the likelihood parameters.
        decoder: makes the network of a frame, [N, latents, h, w] -> [N, outputs, H, W].
    """

    def __init__(self, latents: int, outputs: int, decoder: Callable[[int, int], nn.Module] = ConvDecoder) -> None:
        super().__init__()
        self.decoder = decoder(latents, outputs)

    def forward(self, z: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the outputs. Latents outside the mask, bool [B, T, h, w], affect no other, so it is not used."""
        return each_frame(self.decoder, z)


def each_frame(network: nn.Module, x: Tensor) -> Tensor:
    """Apply a network of frames, [N, C, H, W], to all frames of x [B, C, T, H, W]."""
    frames = x.transpose(1, 2).flatten(0, 1)
    if torch.is_grad_enabled() or is_traced():
        made = network(frames)
    else:
        made = torch.cat([network(part) for part in frames.split(AT_ONCE)])
    return made.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)
