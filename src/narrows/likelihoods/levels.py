"""The levels of images: 0, 1/(L-1), ..., 1 for L levels, each at the centre of a bin of width 1/(L-1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from narrows.errors import NarrowsError
from narrows.waiting import is_on_host

__all__ = ["Levels"]


@dataclass(frozen=True)
class Levels:
    """The L = `count` levels of an image; 256 for 8 bits.

    Raises:
        NarrowsError: if there are fewer than two levels.
    """

    count: int

    def __post_init__(self) -> None:
        if self.count < 2:
            raise NarrowsError(f"levels must be at least 2, not {self.count}; 8-bit images have 256")

    @property
    def width(self) -> float:
        """The distance between two levels, w = 1 / (L - 1)."""
        return 1 / (self.count - 1)

    def values(self, device: torch.device) -> Tensor:
        """Return the levels, float32 [L]."""
        return torch.arange(self.count, device=device) / (self.count - 1)

    def nearest(self, y: Tensor) -> Tensor:
        """Return the level nearest to each value, [*]; values outside [0, 1] go to the edges."""
        return (y.clamp(0, 1) * (self.count - 1)).round() / (self.count - 1)

    def snap(self, x: Tensor) -> Tensor:
        """Return images in float32, rounded to their levels; on a CPU, other values are refused.

        Raises:
            NarrowsError: if the images are on a CPU and a value is more than a hundredth of a bin from every level.
        """
        return self.check(x) if is_on_host(x) else self.nearest(x.float())

    def check(self, x: Tensor) -> Tensor:
        """Do the same as `snap` with a check on any device, which synchronises with it.

        Raises:
            NarrowsError: if a value is more than a hundredth of a bin from every level.
        """
        x = x.float()
        nearest = self.nearest(x)
        if not ((x - nearest).abs() < 0.01 * self.width).all():
            raise NarrowsError(
                f"the images, from {x.min():.4g} to {x.max():.4g}, do not lie on the {self.count} levels "
                f"0, 1/{self.count - 1}, ..., 1: set `levels` to that of the data, or round to the nearest level"
            )
        return nearest
