"""The deterministic parts of a very deep VAE: stem, head, residual blocks, bottom-up network and upsampling.

R. Child, "Very Deep VAEs Generalize Autoregressive Models and Can Outperform Them on Images" (2021).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import sqrt
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["BottomUp", "Branch", "Head", "ResidualBranch", "Stem", "Upsample", "convolution"]


def convolution(inputs: int, outputs: int, window: int = 1, gain: float = 1.0) -> nn.Conv2d:
    """Return a convolution that keeps the size, with zero initial bias and its initial weights multiplied by `gain`."""
    layer = nn.Conv2d(inputs, outputs, window, padding=window // 2)
    with torch.no_grad():
        layer.weight.mul_(gain)
        cast(Tensor, layer.bias).zero_()
    return layer


class Stem(nn.Module):
    """Images [B, inputs, H, W] -> features [B, outputs, H, W], by a 3x3 convolution.

    Args:
        inputs: image channels.
        outputs: feature channels.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.embed = convolution(inputs, outputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Embed images."""
        return self.embed(x)


class Head(nn.Module):
    """The last feature map [B, inputs, H, W] -> likelihood parameters [B, outputs, H, W].

    A learned gain and bias per channel, which bring the sum of all blocks to the likelihood's scale, then a 1x1
    convolution.

    Args:
        inputs: channels of the feature map.
        outputs: channels of the likelihood parameters.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, inputs, 1, 1))
        self.read = convolution(inputs, outputs)

    def forward(self, z: Tensor) -> Tensor:
        """Decode feature maps."""
        return self.read(self.gain * z + self.bias)


class Branch(nn.Module):
    """GELU 1x1, GELU 3x3, GELU 3x3, GELU 1x1: [B, inputs, R, R] -> `middle` channels -> [B, outputs, R, R].

    Args:
        inputs: input channels.
        middle: hidden channels.
        outputs: output channels.
        resolution: R; below 3 all windows are 1x1, because a 3x3 window would see little but padding.
        gain: factor of the last convolution's initial weights.
    """

    def __init__(self, inputs: int, middle: int, outputs: int, resolution: int, gain: float = 1.0) -> None:
        super().__init__()
        window = 3 if resolution > 2 else 1
        self.layers = nn.Sequential(
            nn.GELU(),
            convolution(inputs, middle),
            nn.GELU(),
            convolution(middle, middle, window),
            nn.GELU(),
            convolution(middle, middle, window),
            nn.GELU(),
            convolution(middle, outputs, gain=gain),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the branch."""
        return self.activated(F.gelu(x))

    def activated(self, x: Tensor) -> Tensor:
        """Return the output for GELU(x): branches that read the same x can share its GELU."""
        return self.layers[1:](x)


class ResidualBranch(Branch):
    """x + branch(x), [B, width, R, R] -> [B, width, R, R].

    Args:
        width: input and output channels.
        middle: hidden channels.
        resolution: R.
        gain: factor of the last convolution's initial weights; 1 / sqrt(N) in a stack of N, so that their sum starts
            no larger than one branch.
    """

    def __init__(self, width: int, middle: int, resolution: int, gain: float) -> None:
        super().__init__(width, middle, width, resolution, gain)

    def forward(self, x: Tensor) -> Tensor:
        """Return x plus the branch of x."""
        return x + super().forward(x)


class BottomUp(nn.Module):
    """Features [B, width, R, R] -> activations at every resolution, by residual blocks and average pooling.

    Args:
        width: channels of every activation.
        middle: channels inside a block.
        blocks: number of residual blocks by resolution; R is the largest, and each resolution divides the next.
    """

    def __init__(self, width: int, middle: int, blocks: Mapping[int, int]) -> None:
        super().__init__()
        gain = 1 / sqrt(sum(blocks.values()))
        self.resolutions = sorted(blocks, reverse=True)
        self.stages = cast(
            Sequence[Sequence[ResidualBranch]],
            nn.ModuleList(
                nn.ModuleList(ResidualBranch(width, middle, resolution, gain) for _ in range(blocks[resolution]))
                for resolution in self.resolutions
            ),
        )

    def forward(self, x: Tensor, run: Callable[..., Any]) -> dict[int, Tensor]:
        """Return GELU of the last features at each resolution r, [B, width, r, r]; `run(block, x)` runs a block."""
        activations = {}
        for resolution, stage in zip(self.resolutions, self.stages, strict=True):
            x = F.avg_pool2d(x, x.shape[-1] // resolution)
            for block in stage:
                x = run(block, x)
            activations[resolution] = F.gelu(x)
        return activations


class Upsample(nn.Module):
    """Nearest-neighbour upsampling to [B, width, R, R], plus a learned bias per channel and position.

    Args:
        width: channels.
        resolution: R.
    """

    def __init__(self, width: int, resolution: int) -> None:
        super().__init__()
        self.resolution = resolution
        self.bias = nn.Parameter(torch.zeros(1, width, resolution, resolution))

    def forward(self, x: Tensor) -> Tensor:
        """Upsample x [B, width, r, r], where r divides R."""
        return self.bias + F.interpolate(x, size=self.resolution)
