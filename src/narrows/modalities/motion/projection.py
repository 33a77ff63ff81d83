"""The projection of the players and films: a camera on a sphere about the point it looks at.

All lengths are in stage units, of which the figure fills about one to each side; see `scene`. The third axis is up.
The script `sticks.js` has the same formulas, and a test compares them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["DISTANCE", "HALF", "RADIUS", "View", "floor_lines", "on_floor", "project"]

DISTANCE = 6.0
"""Distance of the camera from the point it looks at."""
NEAREST = 0.2 * DISTANCE
"""Points nearer to the camera, or behind it, are magnified as at this distance."""
HALF = 1.3
"""Half of the width and of the height of a picture, at the distance of the point the camera looks at."""
RADIUS = 2.0
"""Radius of the round floor below that point."""


class View(NamedTuple):
    """The direction in which the camera is."""

    yaw: float = 30.0
    """Degrees from the first horizontal axis towards the second. For y up, 0 is the side of z: a view of the front."""
    pitch: float = 15.0
    """Degrees above the horizon."""


def project(points: np.ndarray, target: np.ndarray, view: View) -> np.ndarray:
    """Return points as the camera sees them: to the right, up, and towards the camera, [..., 3].

    With D the distance, p a point relative to the target, and r, u and n the unit vectors of the picture,
    x = r·p D / (D - n·p) and y = u·p D / (D - n·p).

    Args:
        points: [..., 3].
        target: the point the camera looks at, [3] or of a shape that fits the points.
        view: the direction.
    """
    (sin_yaw, sin_pitch), (cos_yaw, cos_pitch) = np.sin(np.deg2rad(view)), np.cos(np.deg2rad(view))
    right = (-sin_yaw, cos_yaw, 0.0)
    up = (-sin_pitch * cos_yaw, -sin_pitch * sin_yaw, cos_pitch)
    towards = (cos_pitch * cos_yaw, cos_pitch * sin_yaw, sin_pitch)
    seen = (points - target) @ np.array([right, up, towards]).T
    seen[..., :2] *= DISTANCE / np.maximum(DISTANCE - seen[..., 2:], NEAREST)
    return seen


def floor_lines(target: np.ndarray, cell: float) -> np.ndarray:
    """Return the grid of the floor, chords of a circle below the target, as the ends of lines [L, 2, 3].

    Args:
        target: the point the camera looks at, [3].
        cell: side of a square of the grid, which has a line through the origin.
    """
    lines = []
    for axis in (0, 1):
        across = cell * np.arange(np.ceil((target[axis] - RADIUS) / cell), (target[axis] + RADIUS) / cell)
        half = np.sqrt(np.maximum(RADIUS**2 - (across - target[axis]) ** 2, 0))
        ends = np.zeros((len(across), 2, 3))
        ends[..., axis] = across[:, None]
        ends[..., 1 - axis] = target[1 - axis] + half[:, None] * [-1, 1]
        lines.append(ends)
    return np.concatenate(lines)


def on_floor(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return which points [N, 3] are above the round floor, bool [N]."""
    return ((points[:, :2] - target[:2]) ** 2).sum(1) < RADIUS**2
