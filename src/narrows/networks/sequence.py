"""Convolutional encoder and decoder of sequences of any length, with residual blocks at every resolution.

The layout follows the motion VQ-VAE of Zhang et al. 2023, "Generating Human Motion from Textual Descriptions with
Discrete Representations", figure 2: strided convolutions, each followed by residual blocks, and the mirror image.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import torch.nn.functional as F
from torch import Tensor, nn

from narrows.errors import NarrowsError
from narrows.networks.masking import MaskedResidual, run_masked, zeroed
from narrows.networks.strided import check_strides

__all__ = ["SequenceDecoder", "SequenceEncoder"]


class SequenceEncoder(nn.Module):
    """Sequences [B, inputs, T] -> features [B, outputs, T / hop], with hop the product of the strides.

    A convolution of window 3; for each stride s a convolution of window 2 s and `blocks` residual blocks; then a 1x1
    convolution.

    Args:
        inputs: channels of the sequences.
        outputs: feature channels.
        width: hidden channels.
        strides: strides of the convolutions, from the data to the features.
        blocks: number of residual blocks at each resolution.

    Raises:
        NarrowsError: if there is no stride, or one is below 2.
    """

    def __init__(
        self, inputs: int, outputs: int, width: int = 256, strides: tuple[int, ...] = (2, 2, 2), blocks: int = 2
    ) -> None:
        super().__init__()
        check_strides(strides)
        self.hop = prod(strides)
        self.layers = nn.Sequential(
            nn.Conv1d(inputs, width, 3, padding=1),
            *_down(width, strides, blocks),
            nn.ReLU(),
            nn.Conv1d(width, outputs, 1),
        )

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the features; only the positions in `mask`, bool [B, T], count.

        Raises:
            NarrowsError: if T is not a multiple of hop.
        """
        if x.shape[2] % self.hop:
            raise NarrowsError(
                f"{x.shape[2]} positions are not a multiple of {self.hop}, those of a feature of the encoder: set "
                "data.window to a multiple"
            )
        return run_masked(self.layers, x, mask)


class SequenceDecoder(nn.Module):
    """Latents [B, latents, N] -> likelihood parameters [B, outputs, N hop]; the mirror image of `SequenceEncoder`.

    Args:
        latents: latent channels.
        outputs: channels of the likelihood parameters.
        hop: positions per latent; must be the product of the strides.
        width: hidden channels.
        strides: strides of the transposed convolutions, from the latents to the data; None for as many of 2 as make up
            the hop.
        blocks: number of residual blocks at each resolution.

    Raises:
        NarrowsError: if the product of the strides is not `hop`.
    """

    def __init__(
        self,
        latents: int,
        outputs: int,
        hop: int,
        width: int = 256,
        strides: tuple[int, ...] | None = None,
        blocks: int = 2,
    ) -> None:
        super().__init__()
        self.strides = (2,) * (hop.bit_length() - 1) if strides is None else strides
        check_strides(self.strides)
        if prod(self.strides) != hop:
            raise NarrowsError(
                f"the decoder's strides {list(self.strides)} make {prod(self.strides)} positions per latent, but the "
                f"encoder has {hop}: set the decoder's strides to the encoder's in reverse order"
            )
        self.inlet = nn.Conv1d(latents, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(*(MaskedResidual(width) for _ in range(blocks))) for _ in self.strides
        )
        self.upsample = nn.ModuleList(nn.ConvTranspose1d(width, width, 2 * stride, stride) for stride in self.strides)
        self.out = nn.Conv1d(width, outputs, 3, padding=1)

    def forward(self, z: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the outputs; only the latents in `mask`, bool [B, N], count."""
        hidden = self.inlet(zeroed(z, mask))
        for stride, blocks, upsample in zip(self.strides, self.blocks, self.upsample, strict=True):
            hidden = run_masked(blocks, hidden, mask)  # type: ignore[arg-type]
            hidden = F.pad(upsample(zeroed(hidden, mask)), (-(stride // 2), stride // 2 - stride))
            mask = None if mask is None else mask.repeat_interleave(stride, 1)
        return self.out(zeroed(hidden.relu(), mask))


def _down(width: int, strides: tuple[int, ...], blocks: int) -> Iterator[nn.Module]:
    for stride in strides:
        # With this padding T positions become T / s, whether s is even or odd.
        yield nn.ConstantPad1d((stride // 2, stride - stride // 2), 0.0)
        yield nn.Conv1d(width, width, 2 * stride, stride)
        yield from (MaskedResidual(width) for _ in range(blocks))
