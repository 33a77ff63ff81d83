"""A strided convolutional encoder of sound, a WaveNet decoder, and a faster, coarser convolutional decoder.

The encoder and the WaveNet follow van den Oord et al. 2017, section 4.3; the convolutional decoder is an addition of
this package.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from narrows.errors import NarrowsError
from narrows.likelihoods.mulaw import compand
from narrows.networks.decoder import AutoregressiveDecoder
from narrows.networks.masking import MaskedResidual, run_masked, zeroed
from narrows.networks.wavenet import WaveNet, WaveNetState

if TYPE_CHECKING:
    from narrows.networks.spectrogram import SpectrogramEncoder

__all__ = ["StridedDecoder", "StridedEncoder", "WaveNetDecoder"]


class StridedEncoder(nn.Module):
    """Sound [B, inputs, T] -> features [B, outputs, T / hop], with hop the product of the strides.

    A convolution of window 2 s for each stride s, then `blocks` residual blocks, then a 1x1 convolution.

    Two things differ from the paper. The sound is companded first, so that quiet consonants are not lost beside loud
    vowels. The outputs are batch-normalised (Lancucki et al. 2020, "Robust training of vector quantized bottleneck
    models"); otherwise all features would start so close together that few codes would ever be used.

    Args:
        inputs: channels of the sound.
        outputs: feature channels.
        width: hidden channels.
        strides: strides of the convolutions, from the sound to the features; six of 2 in the paper, so 64 samples per
            feature.
        blocks: number of residual blocks.

    Raises:
        NarrowsError: if there is no stride, or one is below 2.
    """

    def __init__(
        self, inputs: int, outputs: int, width: int = 256, strides: tuple[int, ...] = (2,) * 6, blocks: int = 2
    ) -> None:
        super().__init__()
        self.hop = prod(strides)
        self.layers = nn.Sequential(*strided_layers(inputs, outputs, width, strides, blocks))
        # Keeps the scale of the signal through all layers (He et al. 2015); PyTorch's default weights shrink it.
        for part in self.modules():
            if isinstance(part, nn.Conv1d):
                nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
                if part.bias is not None:
                    nn.init.zeros_(part.bias)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the features of sound; only the samples in `mask`, bool [B, T], count.

        Raises:
            NarrowsError: if T is not a multiple of hop, or a training batch has only one feature to normalise.
        """
        check_length(self, x)
        return run_masked(self.layers, compand(zeroed(x, mask)), mask)


class WaveNetDecoder(AutoregressiveDecoder):
    """Latents [B, inputs, N] and the levels before each sample -> logits of its level [B, levels, N hop].

    Each layer of the WaveNet is conditioned on a convolution of the latents, repeated for the `hop` samples of each
    latent, and on the one-hot class.

    Args:
        inputs: latent channels.
        levels: number of levels of a sample, one logit each.
        classes: number of classes, such as speakers, to condition on; below 2 the decoder is unconditional.
        hop: samples per latent.
        context: number of latents that the convolution of the latents spans, odd.
        local_channels: channels of that convolution.
        channels: channels of the residual stream and of a layer's gated features.
        skip_channels: channels of the head.
        stacks: number of stacks; the dilations restart from 1 in each.
        layers: layers per stack, each with twice the dilation of the one before.
        kernel_size: taps of a dilated convolution.

    Raises:
        NarrowsError: if `context` is even, or a size is too small.
    """

    def __init__(
        self,
        inputs: int,
        levels: int,
        classes: int,
        hop: int,
        context: int = 3,
        local_channels: int = 64,
        channels: int = 64,
        skip_channels: int = 128,
        stacks: int = 3,
        layers: int = 10,
        kernel_size: int = 2,
    ) -> None:
        super().__init__()
        if context < 1 or context % 2 == 0:
            raise NarrowsError(f"context is {context}: it must be odd and above 0, to centre the latents it spans")
        self.classes = classes if classes > 1 else 0
        self.context = nn.Conv1d(inputs, local_channels, context, padding=context // 2)
        self.network = WaveNet(
            levels, levels, channels, skip_channels, stacks, layers, kernel_size, local_channels, self.classes, hop
        )

    def forward(self, z: Tensor, levels: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the logits at all positions, given their levels, int64 [B, 1, N hop]."""
        return self.network(levels.squeeze(1), self.context(z), self._class(condition, z))

    def begin(self, z: Tensor, condition: Tensor | None = None) -> WaveNetState:
        """Return the state before the first position; its `step` takes the previous level and returns the logits."""
        return self.network.begin(len(z), self.context(z), self._class(condition, z))

    def _class(self, condition: Tensor | None, z: Tensor) -> Tensor | None:
        return one_hot(condition, self.classes).to(z.dtype) if self.classes and condition is not None else None


class StridedDecoder(nn.Module):
    """Latents [B, inputs, N] -> likelihood parameters [B, outputs, N hop] of all samples at once.

    Args:
        inputs: latent channels.
        outputs: channels of the likelihood parameters.
        classes: number of classes, such as speakers, to condition on; below 2 the decoder is unconditional.
        hop: samples per latent; must be the product of the strides.
        width: hidden channels.
        strides: strides of the transposed convolutions, from the latents to the sound; None for as many of 2 as make up
            the hop.
        blocks: number of residual blocks.

    Raises:
        NarrowsError: if the product of the strides is not `hop`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        classes: int,
        hop: int,
        width: int = 128,
        strides: tuple[int, ...] | None = None,
        blocks: int = 2,
    ) -> None:
        super().__init__()
        strides = (2,) * (hop.bit_length() - 1) if strides is None else strides
        check_strides(strides)
        if prod(strides) != hop:
            raise NarrowsError(
                f"the decoder's strides {list(strides)} make {prod(strides)} samples per latent, but the encoder has "
                f"{hop}: set the decoder's strides to the encoder's in reverse order"
            )
        self.classes = classes if classes > 1 else 0
        self.class_embedding = nn.Linear(self.classes, width, bias=False) if self.classes else None
        self.inlet = nn.Conv1d(inputs, width, 3, padding=1)
        self.blocks = nn.Sequential(*(MaskedResidual(width) for _ in range(blocks)))
        self.upsample = nn.ModuleList(nn.ConvTranspose1d(width, width, 2 * stride, stride) for stride in strides)
        self.strides = strides
        self.out = nn.Conv1d(width, outputs, 3, padding=1)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        # Models saved when classes could only be speakers.
        if (weight := state_dict.pop(f"{prefix}voice.weight", None)) is not None:
            state_dict[f"{prefix}class_embedding.weight"] = weight
        super()._load_from_state_dict(state_dict, prefix, *others)

    def forward(self, z: Tensor, condition: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Return the outputs, given classes int64 [B] (-1 if unknown); only latents in `mask`, bool [B, N], count."""
        hidden = self.inlet(zeroed(z, mask))
        if self.class_embedding is not None and condition is not None:
            hidden = hidden + self.class_embedding(one_hot(condition, self.classes).to(z.dtype)).unsqueeze(2)
        hidden = run_masked(self.blocks, hidden, mask)
        for stride, layer in zip(self.strides, self.upsample, strict=True):
            hidden = F.pad(layer(zeroed(hidden.relu(), mask)), (-(stride // 2), stride // 2 - stride))
            mask = None if mask is None else mask.repeat_interleave(stride, 1)
        return self.out(zeroed(hidden.relu(), mask))


def strided_layers(inputs: int, outputs: int, width: int, strides: tuple[int, ...], blocks: int) -> Iterator[nn.Module]:
    """Yield the layers from [B, inputs, T] to batch-normalised features [B, outputs, T / prod(strides)].

    Raises:
        NarrowsError: if there is no stride, or one is below 2.
    """
    check_strides(strides)
    for channels, stride in zip([inputs] + [width] * (len(strides) - 1), strides, strict=True):
        # With this padding T samples become T / s, whether s is even or odd.
        yield nn.ConstantPad1d((stride // 2, stride - stride // 2), 0.0)
        yield nn.Conv1d(channels, width, 2 * stride, stride)
        yield nn.ReLU()
    yield nn.Conv1d(width, width, 3, padding=1)
    yield from (MaskedResidual(width) for _ in range(blocks))
    yield nn.ReLU()
    yield nn.Conv1d(width, outputs, 1, bias=False)
    yield nn.BatchNorm1d(outputs)


def check_length(encoder: StridedEncoder | SpectrogramEncoder, x: Tensor) -> None:
    """Check that sound divides into features, and into enough of them to normalise in training.

    Raises:
        NarrowsError: if T is not a multiple of the encoder's hop, or a training batch has only one feature.
    """
    if x.shape[2] % encoder.hop:
        raise NarrowsError(
            f"{x.shape[2]} samples are not a multiple of {encoder.hop}, the samples per feature of the encoder: set "
            "data.window to a multiple"
        )
    if encoder.training and len(x) * x.shape[2] < 2 * encoder.hop:
        raise NarrowsError(
            "the training batch has a single feature, which cannot be normalised: raise training.batch_size or "
            "data.window"
        )


def one_hot(classes: Tensor, count: int) -> Tensor:
    """Return classes [B] as one-hot int64 [B, count]; -1, an unknown class, as zeros."""
    return (classes.unsqueeze(1) == torch.arange(count, device=classes.device)).long()


def check_strides(strides: tuple[int, ...]) -> None:
    """Check that there is at least one stride and that each is at least 2.

    Raises:
        NarrowsError: if there is none, or one is below 2.
    """
    if not strides or min(strides) < 2:
        raise NarrowsError(f"strides are {list(strides)}: there must be at least one, and each at least 2")
