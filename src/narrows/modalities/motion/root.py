"""The motion of the root in its own heading frame, and back.

The heading is the turn about the vertical axis: a rotation is R = Y(heading) S, where S turns about a horizontal axis
(the swing-twist decomposition). Speeds in the heading frame do not depend on where and in which direction one moves.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from narrows.modalities.motion.rotations import AXES, euler_to_matrix, matrix_to_sixd, sixd_to_matrix

__all__ = ["ROOT_FEATURES", "Start", "Up", "root_features", "root_motion", "root_path", "start_of"]

Up = Literal["x", "y", "z"]
"""The axis that points up: y in most BVH files, z for robots."""

ROOT_FEATURES = 10
"""Number of features of the root."""


class Start(NamedTuple):
    """Where a motion starts."""

    position: tuple[float, float] = (0.0, 0.0)
    """Along the two horizontal axes: those after the vertical one in the circle x, y, z."""
    heading: float = 0.0
    """Radians."""


def start_of(positions: np.ndarray, rotations: np.ndarray, up: Up) -> Start:
    """Return the start of a root's motion, positions [T, 3] and rotation matrices [T, 3, 3]."""
    _, first, second = _axes(up)
    return Start((float(positions[0, first]), float(positions[0, second])), float(_heading(rotations[:1], up)[0]))


def root_features(positions: np.ndarray, rotations: np.ndarray, up: Up, rate: float) -> np.ndarray:
    """Return the features of a root's motion, float64 [T, 10].

    They are the two horizontal speeds in the heading frame of the frame before (units per second), the height, the
    yaw rate (radians per second), and the rotation without the heading, 6-D. Speeds are from the frame before to this
    one; the first frame has those of the second.

    Args:
        positions: in the world, [T, 3].
        rotations: matrices, [T, 3, 3].
        up: the vertical axis.
        rate: frames per second.
    """
    vertical, first, second = _axes(up)
    heading = _heading(rotations, up)
    place = positions[:, first] + 1j * positions[:, second]  # a turn about the vertical axis is a complex factor
    speed = _from_second(np.diff(place) * np.exp(-1j * heading[:-1]) * rate)
    turn = _from_second(np.angle(np.exp(1j * np.diff(heading))) * rate)
    swing = euler_to_matrix(np.rad2deg(-heading)[:, None], up.upper()) @ rotations
    parts = [speed.real, speed.imag, positions[:, vertical], turn]
    return np.concatenate([np.stack(parts, 1), matrix_to_sixd(swing)], 1)


def root_motion(features: np.ndarray, up: Up, rate: float, start: Start) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions [T, 3] and rotations [T, 3, 3] of features as from `root_features`, which may be inexact.

    The speeds of the first frame have no effect.
    """
    vertical, first, second = _axes(up)
    place, heading = root_path(features, rate, start)
    positions = np.empty((len(features), 3))
    positions[:, first], positions[:, second], positions[:, vertical] = place.real, place.imag, features[:, 2]
    return positions, euler_to_matrix(np.rad2deg(heading)[:, None], up.upper()) @ sixd_to_matrix(features[:, 4:])


def root_path(features: np.ndarray, rate: float, start: Start) -> tuple[np.ndarray, np.ndarray]:
    """Return where features go, as from `root_features`, [..., T, 4 or more].

    Returns:
        the place on the horizontal plane as complex numbers, with the first horizontal axis (see `Start`) as the real
        part, complex128 [..., T]; and the heading in radians, not wrapped, float64 [..., T].
    """
    speed = (features[..., 1:, 0] + 1j * features[..., 1:, 1]).astype(np.complex128)
    begin = np.zeros((*features.shape[:-2], 1))
    turned = np.cumsum(features[..., 1:, 3], axis=-1, dtype=np.float64) / rate
    heading = start.heading + np.concatenate([begin, turned], -1)
    moved = np.cumsum(speed * np.exp(1j * heading[..., :-1]), axis=-1) / rate
    return complex(*start.position) + np.concatenate([begin, moved], -1), heading


def _axes(up: Up) -> tuple[int, int, int]:
    """Return the index of the vertical axis and of the two after it, which is the direction of positive turns."""
    vertical = AXES.index(up.upper())
    return vertical, (vertical + 1) % 3, (vertical + 2) % 3


def _heading(rotations: np.ndarray, up: Up) -> np.ndarray:
    """Return the turn about the vertical axis in radians, [T]; upside down, where there is none, any angle."""
    _, i, j = _axes(up)
    return np.arctan2(rotations[:, j, i] - rotations[:, i, j], rotations[:, i, i] + rotations[:, j, j])


def _from_second(differences: np.ndarray) -> np.ndarray:
    """Return differences between frames [T - 1] with one more for the first frame, [T]."""
    return np.concatenate([differences[:1] if len(differences) else np.zeros(1), differences])
