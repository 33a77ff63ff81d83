"""Blocks of a grid along its first axis, which a network of a limited length processes as examples of their own."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

__all__ = ["Blocks"]


class Blocks:
    """The J blocks of a grid (N, *rest): the last one is padded with positions that do not count.

    Args:
        grid: the grid.
        size: positions of a block along the first axis; None, or a size of at least N, for one block, the grid itself.

    Attributes:
        grid: the grid.
        count: J.
        within: the grid of a block.
    """

    def __init__(self, grid: tuple[int, ...], size: int | None) -> None:
        self.grid = grid
        self.count = 1 if size is None else -(-grid[0] // size)
        self.within = grid if size is None or self.count == 1 else (size, *grid[1:])

    def mask(self, mask: Tensor | None, like: Tensor) -> Tensor | None:
        """Return the mask of the blocks, bool [B * J, *within], of a mask [B, *grid]; None if all positions count.

        Args:
            mask: True where a position counts; None if all do.
            like: a tensor of B examples, on the device of the mask.
        """
        if self.count == 1:
            return mask
        if mask is None:
            if self.count * self.within[0] == self.grid[0]:
                return None
            mask = like.new_ones((len(like), *self.grid)).bool()
        return self.split(mask, 1)

    def split(self, x: Tensor, axis: int, batch: int = 0) -> Tensor:
        """Return x [..., B, ..., N, ...] as blocks, [..., B * J, ..., size, ...], padded with zeros.

        Args:
            x: a tensor of B examples.
            axis: the axis of N, after that of B.
            batch: the axis of B.
        """
        if self.count == 1:
            return x
        missing = self.count * self.within[0] - self.grid[0]
        padded = F.pad(x, [0, 0] * (x.ndim - 1 - axis) + [0, missing])
        return padded.unflatten(axis, (self.count, -1)).movedim(axis, batch + 1).flatten(batch, batch + 1)

    def join(self, x: Tensor, batch: int = 0) -> Tensor:
        """Return blocks [..., B * J, size, ...] as a tensor of the grid, [..., B, N, ...], without the padding."""
        if self.count == 1:
            return x
        joined = x.unflatten(batch, (-1, self.count)).flatten(batch + 1, batch + 2)
        return joined.narrow(batch + 1, 0, self.grid[0])
