"""A simple prediction of frames: the last one, shifted by the average motion of each action."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["average_motion", "motion_between", "shifted"]

MARGIN = 4
"""The largest motion that is found is the size of a frame divided by this."""


def motion_between(before: Tensor, after: Tensor) -> Tensor:
    """Return by how many whole pixels frames move, int64 [N, 2] down and right: with the least absolute difference.

    Only the middle of the later frames, which comes from within the earlier ones, is compared. Of equally good motions
    the smallest is returned.

    Args:
        before: frames [N, 3, H, W].
        after: the frame that follows each, [N, 3, H, W].
    """
    before, after = before.mean(1), after.mean(1)
    height, width = before.shape[1:]
    edges = height // MARGIN, width // MARGIN
    down, right = (torch.arange(-edge, edge + 1) for edge in edges)
    motions = torch.cartesian_prod(down, right)
    motions = motions[motions.square().sum(1).argsort(stable=True)]
    middle = after[:, edges[0] : height - edges[0], edges[1] : width - edges[1]]
    best = torch.full((len(before),), float("inf"))
    found = motions.new_zeros(len(before), 2)
    for motion in motions:
        top, left = (edge - move for edge, move in zip(edges, motion.tolist(), strict=True))
        there = before[:, top : top + middle.shape[1], left : left + middle.shape[2]]
        cost = (there - middle).abs().mean((1, 2))
        found[cost < best] = motion
        best = torch.minimum(cost, best)
    return found


def average_motion(motions: Tensor, features: Tensor) -> Tensor:
    """Return the linear map from features to the mean motion, [C, 2]; for named actions, the mean of each one.

    Args:
        motions: motions between frames, [N, 2].
        features: the features of the actions that led to them, [N, C].
    """
    return torch.linalg.lstsq(features.double(), motions.double(), driver="gelsd").solution


def shifted(last: Tensor, features: Tensor, motion: Tensor) -> Tensor:
    """Return the predicted frames [3, K, H, W]: a frame moved by the sum of the motions so far, its edge repeated.

    Args:
        last: the frame, [3, H, W].
        features: the features of the K actions that follow, [K, C].
        motion: the result of `average_motion`.
    """
    moved = (features.double() @ motion).cumsum(0).round().long()
    return torch.stack([_moved(last, moves) for moves in moved.tolist()], 1)


def _moved(frame: Tensor, moves: Sequence[int]) -> Tensor:
    (down, right), (height, width) = moves, frame.shape[1:]
    rows = (torch.arange(height) - down).clamp(0, height - 1)
    columns = (torch.arange(width) - right).clamp(0, width - 1)
    return frame[:, rows][:, :, columns]
