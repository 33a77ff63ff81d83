"""Motions as features of a model, float32 [T, C], and back: of skeletons, and of time series such as those of robots.

The root goes in as `root_features`, other rotations as 6-D vectors, and angles that wrap as sine and cosine. All of it
is inverted exactly, given where the motion starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from narrows.data.errors import DataError
from narrows.modalities.motion.bvh import Bvh
from narrows.modalities.motion.columns import UNITS, Column, find_group, find_quaternions
from narrows.modalities.motion.root import ROOT_FEATURES, Start, Up, root_features, root_motion, start_of
from narrows.modalities.motion.rotations import (
    matrix_to_quaternion,
    matrix_to_sixd,
    quaternion_to_matrix,
    sixd_to_matrix,
)
from narrows.modalities.motion.skeleton import skeleton_difference

__all__ = ["SkeletonLayout", "TableLayout", "find_moving_joints"]

STILL = 1e-5
"""Joints that stay this close to their offset, as a share of the longest bone, do not move relative to their parent."""
SAME_RATE = 1e-3
"""Relative difference of frame times that comes from rounding in files, such as 0.0333 and 0.033333."""


def find_moving_joints(clips: Iterable[Bvh]) -> tuple[int, ...]:
    """Return the joints other than the root that move away from their offset, as if bones changed their length."""
    moving: set[int] = set()
    for clip in clips:
        away = np.abs(clip.translations() - clip.skeleton.offsets).max((0, 2))
        longest = np.linalg.norm(clip.skeleton.offsets[1:], axis=1).max(initial=0)
        moving.update(int(joint) for joint in np.flatnonzero(away > STILL * longest) if joint)
    return tuple(sorted(moving))


@dataclass(frozen=True, eq=False)
class SkeletonLayout:
    """What the features of a skeleton's motion mean.

    They are those of the root, the 6-D rotation of each other joint that has rotation channels, and the position of
    each moving joint relative to its parent.

    Args:
        template: a motion with the skeleton, channels and frame time; its values do not matter.
        up: the vertical axis.
        moving: indices of the joints whose positions are features; others stay at their offset.
    """

    template: Bvh
    up: Up = "y"
    moving: tuple[int, ...] = ()

    @property
    def turning(self) -> list[int]:
        """Indices of the joints whose rotations are features."""
        channels = enumerate(self.template.channels)
        return [joint for joint, names in channels if joint and any(name.endswith("rotation") for name in names)]

    @property
    def size(self) -> int:
        """C, number of features."""
        return ROOT_FEATURES + 6 * len(self.turning) + 3 * len(self.moving)

    def features(self, clip: Bvh) -> tuple[np.ndarray, Start]:
        """Return the features of a motion, float32 [T, C], and where it starts.

        Raises:
            DataError: naming the joints, if the skeleton is another one; or if the frame time is.
        """
        if difference := skeleton_difference(self.template.skeleton, clip.skeleton):
            raise DataError(f"it has {difference}, unlike the model's")
        if not np.isclose(clip.frame_time, self.template.frame_time, rtol=SAME_RATE):
            rates = (1 / clip.frame_time, 1 / self.template.frame_time)
            raise DataError("it has {:.4g} frames per second, but the model's motions {:.4g}".format(*rates))
        rotations, translations = clip.rotations(), clip.translations()
        root = translations[:, 0], rotations[:, 0]
        parts = [
            root_features(*root, self.up, 1 / self.template.frame_time),
            _flat(matrix_to_sixd(rotations[:, self.turning])),
            _flat(translations[:, list(self.moving)]),
        ]
        return np.concatenate(parts, 1).astype(np.float32), start_of(*root, self.up)

    def motion(self, features: np.ndarray, start: Start) -> Bvh:
        """Return the motion of features [T, C], which may be imperfect ones made by a model."""
        length, turning, moving = len(features), self.turning, list(self.moving)
        root, sixd, placed = np.split(features, [ROOT_FEATURES, ROOT_FEATURES + 6 * len(turning)], axis=1)
        rotations = np.tile(np.eye(3), (length, len(self.template.channels), 1, 1))
        translations = np.tile(self.template.skeleton.offsets, (length, 1, 1))
        translations[:, 0], rotations[:, 0] = root_motion(root, self.up, 1 / self.template.frame_time, start)
        rotations[:, turning] = sixd_to_matrix(sixd.reshape(length, -1, 6))
        translations[:, moving] = placed.reshape(length, -1, 3)
        return self.template.with_motion(rotations, translations)


def _flat(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), -1)


@dataclass(frozen=True, eq=False)
class TableLayout:
    """What the features of a time series mean.

    They are those of the root, if there are its position and quaternion; the 6-D rotation of each other quaternion;
    cosine and sine of each angle that wraps; and all other columns but the time as they are.

    Args:
        columns: the description of the K columns.
        rate: frames per second.
        up: the vertical axis.
    """

    columns: Sequence[Column]
    rate: float
    up: Up = "z"

    @property
    def root(self) -> tuple[list[int], list[int]] | None:
        """Columns of the root's position (x, y, z) and quaternion (x, y, z, w); None if there are not both.

        Raises:
            DataError: if one of the two is not complete.
        """
        position = find_group(self.columns, "root position", "xyz")
        quaternion = find_group(self.columns, "root quaternion", "xyzw")
        return (position, quaternion) if position and quaternion else None

    @property
    def quaternions(self) -> list[list[int]]:
        """Columns (x, y, z, w) of each other quaternion."""
        alone = find_group(self.columns, "root quaternion", "xyzw") if self.root is None else None
        return [*([alone] if alone else []), *find_quaternions(self.columns)]

    @property
    def plain(self) -> list[int]:
        """Columns that are features as they are."""
        kinds = ("value", "angle") if self.root else ("value", "angle", "root position")
        return [index for index, column in enumerate(self.columns) if column.kind in kinds]

    @property
    def size(self) -> int:
        """C, number of features."""
        root = ROOT_FEATURES if self.root else 0
        return root + 6 * len(self.quaternions) + 2 * len(self._wrapping) + len(self.plain)

    @property
    def _wrapping(self) -> list[int]:
        return [index for index, column in enumerate(self.columns) if column.kind == "wrapping angle"]

    @property
    def _radians(self) -> np.ndarray:
        """Radians per unit of each angle that wraps."""
        return np.array([UNITS[self.columns[index].unit] for index in self._wrapping])

    def features(self, values: np.ndarray) -> tuple[np.ndarray, Start]:
        """Return the features of a time series [T, K], float32 [T, C], and where it starts."""
        start, parts = Start(), []
        if self.root:
            position, quaternion = self.root
            root = values[:, position], quaternion_to_matrix(values[:, quaternion])
            start = start_of(*root, self.up)
            parts.append(root_features(*root, self.up, self.rate))
        parts += [matrix_to_sixd(quaternion_to_matrix(values[:, group])) for group in self.quaternions]
        angles = values[:, self._wrapping] * self._radians
        parts += [np.cos(angles), np.sin(angles), values[:, self.plain]]
        return np.concatenate(parts, 1).astype(np.float32), start

    def values(self, features: np.ndarray, start: Start) -> np.ndarray:
        """Return the time series of features [T, C], float64 [T, K].

        Angles that wrap are from minus to plus half a turn, quaternions of unit length without changes of sign from
        frame to frame, and times begin at 0.
        """
        found = np.zeros((len(features), len(self.columns)))
        wrapping, quaternions = self._wrapping, self.quaternions
        sizes = [ROOT_FEATURES if self.root else 0, *[6] * len(quaternions), len(wrapping), len(wrapping)]
        root, *sixd, cosine, sine, plain = np.split(features, np.cumsum(sizes), axis=1)
        if self.root:
            position, quaternion = self.root
            found[:, position], rotations = root_motion(root, self.up, self.rate, start)
            found[:, quaternion] = matrix_to_quaternion(rotations)
        for group, vectors in zip(quaternions, sixd, strict=True):
            found[:, group] = matrix_to_quaternion(sixd_to_matrix(vectors))
        found[:, wrapping] = np.arctan2(sine, cosine) / self._radians
        found[:, self.plain] = plain
        for index, column in enumerate(self.columns):
            if column.kind == "time":
                found[:, index] = np.arange(len(features)) / self.rate
        return found
