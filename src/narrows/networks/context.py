"""What comes before a frame, as features of each of its positions: a convolution over time, then dilated blocks.

A movement such as a turn shifts the whole picture by many positions. Dilated convolutions bring features of far
positions together, and the frame's own condition scales the channels in which they arrive (FiLM, Perez et al. 2018), so
that each condition can choose its own shift.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

__all__ = ["ConditionedBlock", "FrameContext"]

DILATIONS = (1, 2, 4)
"""Dilations of the blocks, from the first, which then repeat."""


class ConditionedBlock(nn.Module):
    """Residual block of a dilated 3x3 convolution, a scale and a shift from the condition, and a 1x1 convolution.

    Args:
        width: W, the channels.
        dilation: distance of the taps of the 3x3 convolution, in positions.
        gain: scale of what the block adds at the start.
    """

    def __init__(self, width: int, dilation: int, gain: float) -> None:
        super().__init__()
        self.spread = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)
        self.mix = nn.Conv2d(width, width, 1)
        nn.init.kaiming_normal_(self.spread.weight, nonlinearity="relu")
        nn.init.normal_(self.mix.weight, std=gain * (2 / width) ** 0.5)

    def forward(self, x: Tensor, terms: Tensor | None) -> Tensor:
        """Return features [B, W, h, w] of x [B, W, h, w]; `terms` are scales, then shifts, [B, 2 W, h or 1, w or 1]."""
        spread = self.spread(x.relu())
        if terms is not None:
            scale, shift = terms.chunk(2, 1)
            spread = torch.addcmul(spread + shift, spread, scale)
        return x + self.mix(spread.relu())


class FrameContext(nn.Module):
    """Features of each frame from the `frames` frames before it and from the conditions of these and of the frame.

    A frame's features at a position depend on positions up to `reach` rows and columns away in the frames before.

    Args:
        inputs: D, the channels of an embedded frame.
        width: W, the channels of the features.
        frames: n, the number of frames before.
        blocks: number of residual blocks, whose dilations are 1, 2, 4, 1, 2, ...
        channels: C, the channels of the condition; 0 for none.
    """

    def __init__(self, inputs: int, width: int, frames: int, blocks: int, channels: int) -> None:
        super().__init__()
        self.frames = frames
        dilations = [DILATIONS[n % len(DILATIONS)] for n in range(blocks)]
        self.reach = 1 + sum(dilations)
        self.before = nn.Conv3d(inputs, width, (frames, 3, 3), padding=(0, 1, 1))
        self.blocks = cast(
            Sequence[ConditionedBlock],
            nn.ModuleList(ConditionedBlock(width, dilation, blocks**-0.5) for dilation in dilations),
        )
        self.condition: nn.Conv3d | None = None
        if channels:
            self.condition = nn.Conv3d(channels, blocks * 2 * width, (frames + 1, 1, 1), bias=False)
            nn.init.zeros_(self.condition.weight)

    def terms(self, features: Tensor | None) -> Tensor | None:
        """Return the scales and shifts of all blocks from conditions [B, C, T, ...]: [B, blocks 2 W, T, ...].

        The axes after T are h and w, or 1 to broadcast. The terms of a frame are of its condition and the n before.
        """
        if self.condition is None or features is None:
            return None
        return self.condition(nn.functional.pad(features, (0, 0, 0, 0, self.frames, 0)))

    def forward(self, before: Tensor, terms: Tensor | None) -> Tensor:
        """Return the features of T frames, [B T, W, h, w], with the T frames of each example one after another.

        Args:
            before: embedded frames from n before the first to one before the last, [B, D, n + T - 1, h, w]; zeros for
                frames that do not exist.
            terms: the terms of the T frames, from `terms`.
        """
        features = _folded(self.before(before))
        parts = [None] * len(self.blocks) if terms is None else _folded(terms).chunk(len(self.blocks), 1)
        for block, part in zip(self.blocks, parts, strict=True):
            features = block(features, part)
        return features


def _folded(x: Tensor) -> Tensor:
    """Return the frames of x [B, C, T, h, w] as examples, [B T, C, h, w]."""
    return x.transpose(1, 2).flatten(0, 1)
