"""From sound to features by strided convolutions, and back by a WaveNet or, quicker and coarser, by convolutions.

The encoder and the WaveNet are those of van den Oord et al. 2017, section 4.3; the convolutional decoder is ours.
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
    """Sound [B, inputs, T] -> features [B, outputs, T / hop], hop = the product of the strides.

    A convolution of window 2 s for each stride s, then `blocks` residual blocks, then a 1x1 convolution.

    Ours: it reads the sound companded, so that a consonant is not lost beside a vowel; and its outputs are normalised
    by batch (Lancucki et al. 2020, "Robust training of vector quantized bottleneck models"), or all features would
    begin so near each other that few codes are ever in use.

    Args:
        inputs: channels of the sound.
        outputs: feature channels.
        width: hidden channels.
        strides: of the convolutions, from the sound to the features; six of 2 in the paper, 64 samples a feature.
        blocks: the number of residual blocks.

    Raises:
        NarrowsError: if there is no stride, or one is below 2.
    """

    def __init__(
        self, inputs: int, outputs: int, width: int = 256, strides: tuple[int, ...] = (2,) * 6, blocks: int = 2
    ) -> None:
        super().__init__()
        self.hop = prod(strides)
        self.layers = nn.Sequential(*strided_layers(inputs, outputs, width, strides, blocks))
        # So that sound comes through all layers as loud as it is (He et al. 2015); PyTorch's own start fades it out.
        for part in self.modules():
            if isinstance(part, nn.Conv1d):
                nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
                if part.bias is not None:
                    nn.init.zeros_(part.bias)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the features of sound, of which the samples of the mask, bool [B, T], count.

        Raises:
            NarrowsError: if T is no multiple of hop, or a batch of one feature is to be normalised.
        """
        check_length(self, x)
        return run_masked(self.layers, compand(zeroed(x, mask)), mask)


class WaveNetDecoder(AutoregressiveDecoder):
    """Latents [B, inputs, N] and the levels before a sample -> logits of its level [B, levels, N hop].

    Each layer of the WaveNet reads a convolution of the latents, the same for the `hop` samples of a latent, and the
    one-hot speaker.

    Args:
        inputs: latent channels.
        levels: the levels of a sample, which the likelihood reads logits of.
        classes: the number of classes, such as speakers, to tell apart; below 2 there is nothing to tell.
        hop: samples of a latent.
        context: latents that the convolution of them spans, odd.
        local_channels: its channels.
        channels: of the residual stream and of a layer's gated features.
        skip_channels: channels of the head.
        stacks: how often the dilations start again from 1.
        layers: layers of a stack, each with twice the dilation of the one before.
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
            raise NarrowsError(f"context is {context}: it must be odd and above 0, for as many latents on either side")
        self.classes = classes if classes > 1 else 0
        self.context = nn.Conv1d(inputs, local_channels, context, padding=context // 2)
        self.network = WaveNet(
            levels, levels, channels, skip_channels, stacks, layers, kernel_size, local_channels, self.classes, hop
        )

    def forward(self, z: Tensor, levels: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the logits at all positions, whose levels, int64 [B, 1, N hop], are known."""
        return self.network(levels.squeeze(1), self.context(z), self._class(condition, z))

    def begin(self, z: Tensor, condition: Tensor | None = None) -> WaveNetState:
        """Return the state before the first position; its `step` takes the level before and gives the logits."""
        return self.network.begin(len(z), self.context(z), self._class(condition, z))

    def _class(self, condition: Tensor | None, z: Tensor) -> Tensor | None:
        return one_hot(condition, self.classes).to(z.dtype) if self.classes and condition is not None else None


class StridedDecoder(nn.Module):
    """Latents [B, inputs, N] -> likelihood parameters [B, outputs, N hop] of all samples at once.

    Args:
        inputs: latent channels.
        outputs: the channels that the likelihood reads.
        classes: the number of classes, such as speakers, to tell apart; below 2 there is nothing to tell.
        hop: samples of a latent; the product of the strides.
        width: hidden channels.
        strides: of the transposed convolutions, from the latents to the sound; None for 2, as often as it takes.
        blocks: the number of residual blocks.

    Raises:
        NarrowsError: if the strides do not make up the hop.
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
                f"the decoder's strides {list(strides)} make {prod(strides)} samples of a latent, of which the encoder "
                f"makes {hop}: set the decoder's strides to the encoder's, the last first"
            )
        self.classes = classes if classes > 1 else 0
        self.class_embedding = nn.Linear(self.classes, width, bias=False) if self.classes else None
        self.inlet = nn.Conv1d(inputs, width, 3, padding=1)
        self.blocks = nn.Sequential(*(MaskedResidual(width) for _ in range(blocks)))
        self.upsample = nn.ModuleList(nn.ConvTranspose1d(width, width, 2 * stride, stride) for stride in strides)
        self.strides = strides
        self.out = nn.Conv1d(width, outputs, 3, padding=1)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        # States saved before the classes could be anything but speakers.
        if (weight := state_dict.pop(f"{prefix}voice.weight", None)) is not None:
            state_dict[f"{prefix}class_embedding.weight"] = weight
        super()._load_from_state_dict(state_dict, prefix, *others)

    def forward(self, z: Tensor, condition: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Return the outputs for latents of classes int64 [B], -1 for one unknown; those of the mask [B, N] count."""
        hidden = self.inlet(zeroed(z, mask))
        if self.class_embedding is not None and condition is not None:
            hidden = hidden + self.class_embedding(one_hot(condition, self.classes).to(z.dtype)).unsqueeze(2)
        hidden = run_masked(self.blocks, hidden, mask)
        for stride, layer in zip(self.strides, self.upsample, strict=True):
            hidden = F.pad(layer(zeroed(hidden.relu(), mask)), (-(stride // 2), stride // 2 - stride))
            mask = None if mask is None else mask.repeat_interleave(stride, 1)
        return self.out(zeroed(hidden.relu(), mask))


def strided_layers(inputs: int, outputs: int, width: int, strides: tuple[int, ...], blocks: int) -> Iterator[nn.Module]:
    """From [B, inputs, T] to features [B, outputs, T / prod(strides)] normalised by batch.

    Raises:
        NarrowsError: if there is no stride, or one is below 2.
    """
    check_strides(strides)
    for channels, stride in zip([inputs] + [width] * (len(strides) - 1), strides, strict=True):
        # So padded that T samples become T / s, whether s is even or odd.
        yield nn.ConstantPad1d((stride // 2, stride - stride // 2), 0.0)
        yield nn.Conv1d(channels, width, 2 * stride, stride)
        yield nn.ReLU()
    yield nn.Conv1d(width, width, 3, padding=1)
    yield from (MaskedResidual(width) for _ in range(blocks))
    yield nn.ReLU()
    yield nn.Conv1d(width, outputs, 1, bias=False)
    yield nn.BatchNorm1d(outputs)


def check_length(encoder: StridedEncoder | SpectrogramEncoder, x: Tensor) -> None:
    """Refuse sound that does not divide into features, or that has too few of them to be normalised in training.

    Raises:
        NarrowsError: if T is no multiple of the encoder's hop, or the batch has one feature in all.
    """
    if x.shape[2] % encoder.hop:
        raise NarrowsError(
            f"{x.shape[2]} samples are not a multiple of the {encoder.hop} that the encoder makes a feature of: set "
            "data.window to a multiple"
        )
    if encoder.training and len(x) * x.shape[2] < 2 * encoder.hop:
        raise NarrowsError("a batch of one code cannot be normalised: raise training.batch_size or data.window")


def one_hot(classes: Tensor, count: int) -> Tensor:
    """Return classes [B] as int64 [B, count]; -1, one unknown, as zeros."""
    return (classes.unsqueeze(1) == torch.arange(count, device=classes.device)).long()


def check_strides(strides: tuple[int, ...]) -> None:
    """Refuse strides that make nothing shorter.

    Raises:
        NarrowsError: if there is none, or one is below 2.
    """
    if not strides or min(strides) < 2:
        raise NarrowsError(f"strides are {list(strides)}: there must be at least one, and each at least 2")
