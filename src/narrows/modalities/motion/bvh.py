"""BVH files (Biovision hierarchy): a skeleton, and the channels of its joints in each frame.

A joint's position channels replace its offset, as in the files of LAFAN1 and of most programs; the root has them, and
in some files every joint. Rotation channels are Euler angles in the order of the file, which may differ by joint.
"""

from __future__ import annotations

import io
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from narrows.atomic import whole_file
from narrows.data.errors import DataError
from narrows.modalities.motion.hierarchy import Channels, read_hierarchy, write_hierarchy
from narrows.modalities.motion.rotations import AXES, euler_to_matrix, matrix_to_euler
from narrows.modalities.motion.skeleton import Pose, Skeleton

__all__ = ["Bvh", "read_bvh", "write_bvh"]

MOTION = re.compile(rb"^[ \t]*MOTION\s+Frames:\s*(\S+)\s+Frame[ \t]+Time:[ \t]*(\S+)[ \t]*\r?(?:\n|\Z)", re.M | re.I)
LARGEST = 1e9
"""Larger values are seldom a position, and would be lost in the precision of sums."""


class Columns(NamedTuple):
    """Columns of the joints with the same channels of one kind."""

    axes: str
    """The axes of the channels in the order of the file, such as "ZXY"."""
    joints: list[int]
    """Indices of the joints."""
    columns: np.ndarray
    """Columns of their channels, int64 [joints, axes]."""


@dataclass(frozen=True, eq=False)
class Bvh:
    """The content of a BVH file.

    Args:
        skeleton: the J joints, with offsets in the unit of the file (often centimetres or inches).
        channels: the channels of each joint in the order of the file.
        frame_time: seconds per frame.
        values: the values of all channels as in the file, degrees or the unit of the offsets, float64 [T, C].
    """

    skeleton: Skeleton
    channels: Channels
    frame_time: float
    values: np.ndarray

    def rotations(self) -> np.ndarray:
        """Return the rotation of each joint relative to its parent, matrices [T, J, 3, 3]."""
        found = np.tile(np.eye(3), (len(self.values), len(self.channels), 1, 1))
        for axes, joints, columns in self._columns("rotation"):
            found[:, joints] = euler_to_matrix(self.values[:, columns], axes)
        return found

    def translations(self) -> np.ndarray:
        """Return the position of each joint relative to its parent, in its coordinates, [T, J, 3]."""
        found = np.tile(self.skeleton.offsets, (len(self.values), 1, 1))
        for axes, joints, columns in self._columns("position"):
            found[:, np.array(joints)[:, None], [AXES.index(axis) for axis in axes]] = self.values[:, columns]
        return found

    def pose(self) -> Pose:
        """Return the joints in the coordinates of the world."""
        return self.skeleton.pose(self.rotations(), self.translations())

    def with_motion(self, rotations: np.ndarray, translations: np.ndarray) -> Bvh:
        """Return another motion of this skeleton, with the same channels; angles do not jump between frames.

        Args:
            rotations: the rotation of each joint relative to its parent, matrices [T, J, 3, 3].
            translations: the position of each joint relative to its parent, [T, J, 3]; those of joints without
                position channels are left out.
        """
        values = np.empty((len(rotations), sum(map(len, self.channels))))
        for axes, joints, columns in self._columns("rotation"):
            values[:, columns] = matrix_to_euler(rotations[:, joints], axes)
        for axes, joints, columns in self._columns("position"):
            values[:, columns] = translations[:, np.array(joints)[:, None], [AXES.index(axis) for axis in axes]]
        return replace(self, values=values)

    def _columns(self, kind: Literal["position", "rotation"]) -> list[Columns]:
        joints, columns = defaultdict(list), defaultdict(list)
        first = 0
        for joint, channels in enumerate(self.channels):
            if axes := "".join(channel[0] for channel in channels if channel.endswith(kind)):
                joints[axes].append(joint)
                columns[axes].append([first + at for at, channel in enumerate(channels) if channel.endswith(kind)])
            first += len(channels)
        return [Columns(axes, joints[axes], np.array(columns[axes])) for axes in joints]


def read_bvh(content: bytes) -> Bvh:
    """Read a BVH file.

    Raises:
        DataError: naming the line or the joint, if it is no BVH file, is truncated, has other frames or channels than
            it says, a joint twice, or a value that is not a finite number.
    """
    motion = MOTION.search(content)
    if motion is None:
        part = "no line HIERARCHY" if b"HIERARCHY" not in content.upper() else "no MOTION with Frames and Frame Time"
        raise DataError(f"it is not a BVH file, or truncated: it has {part}")
    skeleton, channels = read_hierarchy(content[: motion.start()].decode("utf-8-sig", "replace"))
    frames, seconds = (group.decode("ascii", "replace") for group in motion.groups())
    if re.fullmatch(r"\d*\.?\d+(e-?\d+)?", seconds, re.I) is None or not 0 < float(seconds) < LARGEST:
        raise DataError(f"its frame time is {seconds!r}; it must be a positive number of seconds")
    count = sum(map(len, channels))
    values = _values(content[motion.end() :], count, content[: motion.end()].count(b"\n") + 1)
    if frames != str(len(values)):
        raise DataError(f"it says {frames} frames but has {len(values)}: it is truncated, or was edited")
    return Bvh(skeleton, channels, float(seconds), values)


def _values(block: bytes, channels: int, line: int) -> np.ndarray:
    """Return the values [T, C] of the lines of frames, of which the first one has the number `line`."""
    if not block.strip():
        return np.zeros((0, channels))
    try:
        values = np.loadtxt(io.BytesIO(block), comments=None, ndmin=2, encoding="latin1")
    except ValueError:
        raise DataError(_mistake(block, channels, line)) from None
    if values.shape[1] != channels or not (np.abs(values) < LARGEST).all():
        raise DataError(_mistake(block, channels, line))
    return values


def _mistake(block: bytes, channels: int, line: int) -> str:
    """Return what is wrong with the first frame that cannot be read."""
    lines = block.rstrip().split(b"\n")
    for number, words in enumerate(map(bytes.split, lines), line):
        for column, word in enumerate(words, 1):
            text = word.decode("latin1")
            if "," in text:
                return f"line {number}: {text!r} has a comma as decimal sign; replace it by a point"
            try:
                if not abs(float(text)) < LARGEST:
                    return f"line {number}: value {column} is {text}"
            except ValueError:
                return f"line {number}: value {column} is {text!r}, not a number"
        if words and len(words) != channels:
            cut = "; it is truncated" if number == line + len(lines) - 1 else ""
            return f"line {number}: {len(words)} values instead of {channels}{cut}"
    return "its values cannot be read"


def write_bvh(path: Path, bvh: Bvh) -> None:
    """Write a BVH file, from which `read_bvh` returns the same to six decimals."""
    values = np.round(bvh.values, 6) + 0.0
    line = " ".join(["%.6f"] * values.shape[1])
    frames = [f"MOTION\nFrames: {len(values)}\nFrame Time: {bvh.frame_time:.10g}"]
    frames += [line % tuple(row) for row in values.tolist()]
    with whole_file(path) as aside:
        aside.write_text(write_hierarchy(bvh.skeleton, bvh.channels) + "\n".join(frames) + "\n", encoding="utf-8")
