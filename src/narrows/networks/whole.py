"""Networks between a grid and one vector that describes the whole of it, for global latents.

Both work on grids of one to three dimensions, with strided convolutions and residual blocks as in van den Oord et al.
2017, section 4.1, and a linear map between the coarsest grid and the vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TypeAlias

import torch.nn.functional as F
from torch import Tensor, nn

from narrows.errors import NarrowsError

__all__ = ["GlobalDecoder", "GlobalEncoder"]

Convolution: TypeAlias = type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d]
CONVOLUTIONS: dict[int, Convolution] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class GlobalEncoder(nn.Module):
    """Grids [B, inputs, *size] -> one vector each, [B, outputs].

    A convolution of window 3, `downsamplings` convolutions of window 4 and stride 2, `blocks` residual blocks, then a
    linear map. The outputs are batch-normalised, so that the vectors of different examples are far enough apart to have
    different codes from the start (Lancucki et al. 2020).

    Args:
        inputs: channels of the grid.
        outputs: length of the vector.
        size: size of the grid, such as [21, 21].
        width: hidden channels.
        downsamplings: number of convolutions of stride 2.
        blocks: number of residual blocks.

    Raises:
        NarrowsError: if the grid has more than three dimensions or is too small to be halved so often.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: Sequence[int],
        width: int = 128,
        downsamplings: int = 2,
        blocks: int = 2,
    ) -> None:
        super().__init__()
        convolution = _convolution(size, width, downsamplings, blocks)
        coarse = [side >> downsamplings for side in size]
        if min(coarse) < 1:
            raise NarrowsError(f"a grid of {list(size)} cannot be halved {downsamplings} times: lower downsamplings")
        halved: list[nn.Module] = []
        for _ in range(downsamplings):
            halved += [nn.ReLU(), convolution(width, width, 4, stride=2, padding=1)]
        self.layers = nn.Sequential(
            convolution(inputs, width, 3, padding=1),
            *halved,
            *(_Residual(convolution, width) for _ in range(blocks)),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(width * prod(coarse), outputs, bias=False),
        )
        self.normalise = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the vectors of grids.

        Raises:
            NarrowsError: if a training batch has a single grid, which cannot be normalised.
        """
        if self.training and len(x) == 1:
            raise NarrowsError("the training batch has a single example to normalise: raise training.batch_size")
        return self.normalise(self.layers(x))


class GlobalDecoder(nn.Module):
    """One vector [B, inputs] -> features of every position of a grid, [B, outputs, *size].

    A linear map to the coarsest grid, `blocks` residual blocks, `upsamplings` times a doubling of the grid and a
    convolution of window 3, then a convolution of window 1.

    Args:
        inputs: length of the vector.
        outputs: channels of the grid.
        size: size of the grid, such as [21, 21].
        width: hidden channels.
        upsamplings: number of doublings.
        blocks: number of residual blocks.

    Raises:
        NarrowsError: if the grid has more than three dimensions.
    """

    def __init__(
        self, inputs: int, outputs: int, size: Sequence[int], width: int = 128, upsamplings: int = 2, blocks: int = 2
    ) -> None:
        super().__init__()
        convolution = _convolution(size, width, upsamplings, blocks)
        self.size = tuple(size)
        coarse = tuple(-(-side // 2**upsamplings) for side in size)
        doubled: list[nn.Module] = []
        for _ in range(upsamplings):
            doubled += [nn.ReLU(), nn.Upsample(scale_factor=2), convolution(width, width, 3, padding=1)]
        self.layers = nn.Sequential(
            nn.Linear(inputs, width * prod(coarse)),
            nn.Unflatten(1, (width, *coarse)),
            *(_Residual(convolution, width) for _ in range(blocks)),
            *doubled,
            nn.ReLU(),
            convolution(width, outputs, 1),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Return the features of the positions."""
        features = self.layers(z)
        # The doubled grid is at least as large as the grid: cut it.
        beyond = [size - side for size, side in zip(self.size, features.shape[2:], strict=True)]
        return F.pad(features, [cut for side in reversed(beyond) for cut in (0, side)])


class _Residual(nn.Module):
    """x + conv1(ReLU(conv3(ReLU(x)))) on a grid of one to three dimensions."""

    def __init__(self, convolution: Convolution, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.ReLU(), convolution(width, width, 3, padding=1), nn.ReLU(), convolution(width, width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def _convolution(size: Sequence[int], width: int, strides: int, blocks: int) -> Convolution:
    if len(size) not in CONVOLUTIONS:
        raise NarrowsError(f"the grid {list(size)} has {len(size)} dimensions: these networks read one to three")
    if width < 1 or strides < 0 or blocks < 0:
        raise NarrowsError(
            f"width is {width}, downsamplings or upsamplings {strides} and blocks {blocks}: the first must be at least "
            "1, the others at least 0"
        )
    return CONVOLUTIONS[len(size)]
