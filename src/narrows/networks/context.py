"""Features of each position of a frame, computed from the frames before it.

A movement such as a turn shifts the whole picture by many positions. So wide kernels move the last frame, weighted by
the frame's own condition, as in the dynamic kernels of Finn et al. 2016, "Unsupervised learning for physical
interaction through video prediction". What moves otherwise is left to dilated convolutions, whose channels the
condition scales and shifts (FiLM, Perez et al. 2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ConditionedBlock", "FrameContext"]

MOVES = 8
"""Kernels of each channel that move the last frame."""
KERNEL = (5, 13)
"""Their rows and columns."""
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

    A frame's features at a position depend on positions up to `reach` rows and columns away in the frames before, and
    in the last one on those that a kernel moves to up to `reach` - 1 rows and columns away.

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
        self.moves = nn.Parameter(torch.randn(inputs, MOVES, *KERNEL) * (MOVES * KERNEL[0] * KERNEL[1]) ** -0.5)
        self.placed = nn.Conv2d(inputs, width, 1, bias=False)
        nn.init.normal_(self.placed.weight, std=inputs**-0.5)
        self.blocks = cast(
            Sequence[ConditionedBlock],
            nn.ModuleList(ConditionedBlock(width, dilation, blocks**-0.5) for dilation in dilations),
        )
        self.condition: nn.Conv3d | None = None
        if channels:
            self.condition = nn.Conv3d(channels, MOVES + blocks * 2 * width, (frames + 1, 1, 1), bias=False)
            nn.init.zeros_(self.condition.weight)
            # Different weights of the kernels for each condition from the start, so that they learn apart.
            nn.init.normal_(self.condition.weight[:MOVES, :, -1])

    def terms(self, features: Tensor | None) -> Tensor | None:
        """Return the terms of the kernels and of all blocks from conditions [B, C, T, ...]: [B, terms, T, ...].

        The axes after T are h and w, or 1 to broadcast; the kernels are weighted by the mean over them. The terms of a
        frame are of its condition and the n before.
        """
        if self.condition is None or features is None:
            return None
        return self.condition(F.pad(features, (0, 0, 0, 0, self.frames, 0)))

    def forward(self, before: Tensor, terms: Tensor | None) -> Tensor:
        """Return the features of T frames, [B T, W, h, w], with the T frames of each example one after another.

        Args:
            before: embedded frames from n before the first to one before the last, [B, D, n + T - 1, h, w]; zeros for
                frames that do not exist.
            terms: the terms of the T frames, from `terms`.
        """
        last = _folded(before[:, :, self.frames - 1 :])
        weights = last.new_ones(len(last), MOVES)
        parts: Sequence[Tensor | None] = [None] * len(self.blocks)
        if terms is not None:
            chosen, *parts = _folded(terms).split([MOVES, *[2 * len(block.mix.weight) for block in self.blocks]], 1)
            weights = weights + chosen.mean((2, 3))
        features = _folded(self.before(before)) + self.placed(self._moved(last, weights))
        for block, part in zip(self.blocks, parts, strict=True):
            features = block(features, part)
        return features

    def _moved(self, last: Tensor, weights: Tensor) -> Tensor:
        """Return frames [N, D, h, w] moved by the sum of the kernels, with weights [N, MOVES] of their own."""
        kernels = torch.einsum("nm,dmyx->ndyx", weights, self.moves).flatten(0, 1).unsqueeze(1)
        edges = KERNEL[0] // 2, KERNEL[1] // 2
        return F.conv2d(last.reshape(1, -1, *last.shape[2:]), kernels, padding=edges, groups=len(kernels)).view_as(last)


def _folded(x: Tensor) -> Tensor:
    """Return the frames of x [B, C, T, h, w] as examples, [B T, C, h, w]."""
    return x.transpose(1, 2).flatten(0, 1)
