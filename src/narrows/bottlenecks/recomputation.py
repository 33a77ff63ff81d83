"""Activation checkpointing runs a forward pass twice; the second must use the first's codebook and not change it.

`torch.utils.checkpoint` drops the activations of a forward pass and runs it again during the backward pass. By then the
codebook has learned from the first pass, and other forward passes may have happened. Therefore the points that a
checkpointed pass quantised with are kept until the pass is repeated, which is recognised by its tokens.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import torch
from torch import Tensor

from narrows.waiting import is_on_host

__all__ = ["PointsInUse", "is_recomputation"]

KEPT = 16
"""The largest number of passes kept for recomputation. Older ones are dropped, because a pass without gradients may
never run again, and each holds a copy of the points."""


class _Pass(NamedTuple):
    moments: Tensor
    points: Tensor
    waits: Tensor
    """Whether the pass has not been run again yet, bool []."""


class PointsInUse:
    """The points [M, K, dim] of the forward passes that may be run again, newest last."""

    def __init__(self) -> None:
        self._passes: deque[_Pass] = deque(maxlen=KEPT)

    def remember(self, tokens: Tensor, points: Tensor) -> None:
        """Keep the points that a pass quantises `tokens` with, if the pass may be run again."""
        if _is_checkpointed():
            moments = _moments(tokens)
            self._passes.append(_Pass(moments, points.clone(), moments.new_ones((), dtype=torch.bool)))

    def recall(self, tokens: Tensor, points: Tensor) -> Tensor:
        """Return the points of the newest pass with these tokens and drop it; `points` if there is none."""
        moments = _moments(tokens)
        if not is_on_host(moments):
            return self._choose(moments, points)
        for index in reversed(range(len(self._passes))):
            found = self._passes[index]
            if found.moments.device == moments.device and torch.equal(found.moments, moments):
                del self._passes[index]
                return found.points
        return points

    def _choose(self, moments: Tensor, points: Tensor) -> Tensor:
        """Do the same without a device synchronisation: a pass that was run again is kept, but never chosen again."""
        missing = torch.ones_like(moments[0], dtype=torch.bool)
        for found in reversed(self._passes):
            if found.moments.device == moments.device:
                chosen = missing & found.waits & (found.moments == moments).all()
                points = torch.where(chosen, found.points, points)
                found.waits.logical_and_(~chosen)
                missing = missing & ~chosen
        return points


def is_recomputation() -> bool:
    """Return whether the current forward pass is called by a backward pass."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def _is_checkpointed() -> bool:
    """Return whether this pass may be run again: saved-tensor hooks are active, or gradients are off."""
    if torch.compiler.is_compiling() or torch.is_inference_mode_enabled():
        return False
    return not torch.is_grad_enabled() or torch._C._autograd._top_saved_tensors_default_hooks(True) is not None


def _moments(tokens: Tensor) -> Tensor:
    """Return a fingerprint of tokens [n, M, dim]: their number and sums in double precision; any two NaN are equal."""
    flat = tokens.flatten().double()
    ramp = torch.arange(len(flat), device=flat.device, dtype=flat.dtype)
    sums = torch.stack([flat.sum(), flat.square().sum(), flat.dot(ramp)]).nan_to_num()
    return torch.cat([sums, sums.new_full((1,), len(flat))])
