"""Feet: which joints they are, and how far they slide while they are on the ground."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from narrows.modalities.motion.root import Up
from narrows.modalities.motion.rotations import AXES

__all__ = ["find_feet", "foot_sliding"]

FOOT = re.compile(r"foot(?!_?print)|toe|ankle", re.I)
"""Matches the names of joints of feet, such as LeftToeBase, rFoot and left_ankle_roll_link.

Not base_footprint, the conventional name of the point on the ground below a robot.
"""

GROUND = 5.0
"""Percentile of the height of the lowest foot, over the frames, that is the height of the ground.

Not the minimum: in many recordings a foot is far below the ground for a frame or two, which would leave it in the
air in all others.
"""

NEAR_GROUND = 5.0
"""Centimetres above the ground within which a foot may be on the ground.

A sole that rolls from heel to toe, and the error of a recording, are smaller; an ankle above a flat sole is higher.
"""

STANDING = 0.3
"""Speed in m/s below which a foot near the ground counts as standing.

A swinging foot also comes within a few centimetres of the ground, but at the speed of the walk or more, above 1 m/s;
the speed of a standing one is the noise of the recording.
"""

PER_METRE = 100
"""Centimetres per metre."""


def find_feet(names: Sequence[str]) -> list[int]:
    """Return the indices of the joints whose names are those of feet, toes or ankles."""
    return [index for index, name in enumerate(names) if FOOT.search(name)]


def foot_sliding(original: np.ndarray, made: np.ndarray, up: Up, rate: float) -> tuple[float, float]:
    """Return the mean horizontal speed in m/s of the feet while they stand in the original: its own, and the made one.

    A foot stands from one frame to the next if in both it is at most 5 cm above the ground, and its speed between them
    is below 0.3 m/s. The height of the ground is the fifth percentile, over the frames, of that of the lowest foot.
    Both speeds are NaN if no foot ever stands: then nothing is known of sliding.

    Args:
        original: positions of the feet in the world, in cm, [T, F, 3].
        made: those of the reconstruction, on its own path.
        up: the vertical axis.
        rate: frames per second.
    """
    axis = AXES.index(up.upper())
    height = original[:, :, axis]
    low = height <= np.percentile(height.min(1), GROUND) + NEAR_GROUND
    moved, slid = np.diff(original, axis=0), np.diff(made, axis=0)
    stands = low[1:] & low[:-1] & (_speed(moved, rate) < STANDING)
    if not stands.any():
        return math.nan, math.nan
    before, after = (_speed(np.delete(part, axis, 2), rate)[stands].mean() for part in (moved, slid))
    return float(before), float(after)


def _speed(differences: np.ndarray, rate: float) -> np.ndarray:
    """Return the speeds in m/s of differences between frames in cm, [T - 1, F, ...]."""
    return np.linalg.norm(differences, axis=2) * rate / PER_METRE
