"""Motions at another frame rate: rotations by spherical, everything else by linear interpolation between two frames."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

__all__ = ["frames_at", "linear", "spherical"]


def frames_at(length: int, before: float, after: float) -> np.ndarray:
    """Return the frames at a rate `after` as fractional indices of `length` frames at a rate `before`, float64 [N]."""
    # A last frame that exists but for rounding is kept.
    return np.arange(int((length - 1) * after / before + 1e-6) + 1) * (before / after)


def linear(values: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Return values [T, ...] at fractional frames [N], [N, ...]."""
    below, weight = _split(values, frames)
    weight = weight.reshape(-1, *[1] * (values.ndim - 1))
    return values[below] * (1 - weight) + values[below + 1] * weight if len(values) > 1 else values[below]


def spherical(rotations: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Return rotation matrices [T, ..., 3, 3] at fractional frames [N], [N, ..., 3, 3], by the shortest turns."""
    below, weight = _split(rotations, frames)
    if len(rotations) < 2:
        return rotations[below]
    first, second = rotations[below], rotations[below + 1]
    turns = Rotation.from_matrix((np.swapaxes(first, -1, -2) @ second).reshape(-1, 3, 3)).as_rotvec()
    share = np.repeat(weight, len(turns) // max(1, len(weight)))
    return first @ Rotation.from_rotvec(turns * share[:, None]).as_matrix().reshape(first.shape)


def _split(values: np.ndarray, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the frame before each fractional one, [N], and the weight of the frame after it."""
    below = np.clip(np.floor(frames).astype(np.int64), 0, max(0, len(values) - 2))
    return below, np.clip(frames - below, 0, 1)
