"""The condition of the codes of an example: its label, and features of each position or frame of the grid."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

__all__ = ["Condition"]


class Condition(NamedTuple):
    """The condition of p(codes | condition) for a batch of B examples."""

    labels: Tensor | None = None
    """The class of each example, int64 [B]."""
    features: Tensor | None = None
    """Features of the positions of the grid, float [B, C, *grid], where B and each axis of the grid may also be 1 and
    are then broadcast: [B, C, T, 1, 1] gives each frame of a grid (T, H, W) its own features."""

    @classmethod
    def of(cls, condition: Condition | Tensor | None) -> Condition:
        """Return `condition` as a `Condition`; a tensor stands for labels alone, None for no condition."""
        return condition if isinstance(condition, Condition) else cls(labels=condition)
