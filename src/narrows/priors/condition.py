"""What a prior is told of an example besides its codes: its class, and features of each position or frame."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

__all__ = ["Condition"]


class Condition(NamedTuple):
    """The condition of p(codes | condition) for a batch of B examples."""

    labels: Tensor | None = None
    """The class of each example, int64 [B]."""
    features: Tensor | None = None
    """Features of the positions of the grid, [B, C, *grid], or any shape that broadcasts to it: [B, C, T, 1, 1] gives
    each frame of a grid [T, H, W] features of its own."""

    @classmethod
    def of(cls, condition: Condition | Tensor | None) -> Condition:
        """Return a condition; a tensor stands for labels alone, None for no condition."""
        return condition if isinstance(condition, Condition) else cls(labels=condition)
