"""Tables of one description as features, and back: time series of any kind, such as logs of robots."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from narrows.data.errors import DataError
from narrows.modalities.motion.columns import UNITS, Column, unit_quaternions
from narrows.modalities.motion.features import TableLayout
from narrows.modalities.motion.feet import find_feet
from narrows.modalities.motion.figure import StickFigure, robot_figure
from narrows.modalities.motion.formats import Format, Moved, require_frames
from narrows.modalities.motion.resampling import frames_at, linear, spherical
from narrows.modalities.motion.root import Start, Up
from narrows.modalities.motion.rotations import matrix_to_quaternion, quaternion_to_matrix
from narrows.modalities.motion.skeleton import Pose
from narrows.modalities.motion.tables import Table, read_table, write_table
from narrows.modalities.motion.urdf import Robot, read_urdf

__all__ = ["SAME_CLOCK", "TableFormat", "TableReading", "with_joints"]

UNEVEN = 0.5
"""The largest relative difference between two time steps and their median that counts as an even rate."""

SAME_CLOCK = 5e-3
"""Relative difference between the rates of two files that comes from clocks that jitter, and from 29.97 called 30."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TableReading:
    """How tables are read.

    Args:
        rate: frames per second, which overrides the column with times; None uses that column.
        resample: frames per second to convert to; None keeps those of the files.
        skip_frames: number of rows to leave out at the start.
        header: whether the files have the names of the columns, which written files then have, too.
    """

    rate: float | None = None
    resample: float | None = None
    skip_frames: int = 0
    header: bool = True

    def read(self, path: Path, columns: list[Column]) -> tuple[np.ndarray, float]:
        """Return the values of a file, float64 [T, K], with unit quaternions, and the frames per second.

        Raises:
            DataError: if it cannot be read, no row is left, or its rate is unknown or uneven.
        """
        return self.converted(path, read_table(path, [column.name for column in columns]).values, columns)

    def converted(self, path: Path, values: np.ndarray, columns: list[Column]) -> tuple[np.ndarray, float]:
        """Do the same as `read` for the values of a file."""
        require_frames(len(values), self.skip_frames)
        values, changed = unit_quaternions(values[self.skip_frames :], columns)
        if changed:
            logger.warning("%s: %d quaternions are not of unit length; they were normalised", path, changed)
        times = next((values[:, index] for index, column in enumerate(columns) if column.kind == "time"), None)
        rate = self.rate or _rate_of(times, even=self.resample is None)
        if self.resample is None:
            return values, rate
        if self.rate is None and times is not None:
            wanted = np.arange(times[0], times[-1] + 1e-6 / self.resample, 1 / self.resample)
            frames = np.interp(wanted, times, np.arange(len(times)))
        else:
            frames = frames_at(len(values), rate, self.resample)
        return _resampled(values, frames, columns), self.resample


def _rate_of(times: np.ndarray | None, even: bool) -> float:
    """Return the frames per second of a column of times in seconds."""
    if times is None:
        raise DataError("its frame rate is unknown: set data.rate, or describe a column of kind time")
    steps = np.diff(times)
    middle = float(np.median(steps)) if len(steps) else 0.0
    if middle <= 0 or (steps <= 0).any():
        raise DataError("its times do not rise from row to row")
    if even and (np.abs(steps / middle - 1) > UNEVEN).any():
        row = int(np.argmax(np.abs(steps / middle - 1))) + 2
        raise DataError(f"its times are not even (row {row}): set data.resample to the frames per second to convert to")
    # The slope of the line through all times hardly depends on their jitter.
    number = np.arange(len(times)) - (len(times) - 1) / 2
    return float((number**2).sum() / (number * (times - times[0])).sum())


def _resampled(values: np.ndarray, frames: np.ndarray, columns: list[Column]) -> np.ndarray:
    layout = TableLayout(columns, 1.0)
    straight = values.copy()
    for index, column in enumerate(columns):
        if column.kind == "wrapping angle":
            straight[:, index] = np.unwrap(values[:, index], period=2 * np.pi / UNITS[column.unit])
    found = linear(straight, frames)
    for group in [*([layout.root[1]] if layout.root else []), *layout.quaternions]:
        found[:, group] = matrix_to_quaternion(spherical(quaternion_to_matrix(values[:, group]), frames))
    return found


def with_joints(columns: list[Column], robot: Robot) -> list[Column]:
    """Return the columns with the kinds of a robot's joints, for those of kind `value`: angles, in their unit.

    Raises:
        DataError: naming the joints without a column, or the column whose unit is not one of angles.
    """
    found = list(columns)
    indices = robot.find_joints([column.name for column in columns])
    for joint, index in zip(robot.joints, indices, strict=True):
        column = found[index]
        if column.unit not in UNITS:
            raise DataError(
                f"the column {column.name!r} has the angles of a joint, whose unit is rad or deg, not {column.unit!r}"
            )
        if column.kind == "value":
            found[index] = column._replace(kind="wrapping angle" if joint.limits is None else "angle")
    return found


@dataclass(frozen=True, eq=False)
class TableFormat(Format):
    """Tables with the same columns.

    Args:
        layout: what the features mean.
        unit_cm: centimetres per unit of the root's position; a robot's links are in metres.
        reading: how files are read.
        urdf: the text of the robot's URDF file; "" if there is none.
    """

    layout: TableLayout
    unit_cm: float
    reading: TableReading
    urdf: str = ""

    suffix = ".csv"

    @classmethod
    def of_details(cls, details: Mapping[str, Any]) -> TableFormat:
        """Return the format that `details` describes."""
        columns = [Column(*column) for column in details["columns"]]
        layout = TableLayout(columns, float(details["rate"]), details["up"])
        return cls(layout, float(details["unit_cm"]), TableReading(**details["reading"]), details["urdf"])

    @property
    def details(self) -> dict[str, Any]:
        """The format as JSON values."""
        return {
            "format": "table",
            "columns": [list(column) for column in self.layout.columns],
            "rate": self.layout.rate,
            "up": self.layout.up,
            "unit_cm": self.unit_cm,
            "reading": vars(self.reading),
            "urdf": self.urdf,
        }

    @property
    def rate(self) -> float:  # type: ignore[override]
        """Frames per second of the features."""
        return self.layout.rate

    @property
    def up(self) -> Up:  # type: ignore[override]
        """The vertical axis."""
        return self.layout.up

    @property
    def has_root(self) -> bool:  # type: ignore[override]
        """Whether the first features are those of a root."""
        return self.layout.root is not None

    @property
    def size(self) -> int:
        """C, number of features."""
        return self.layout.size

    @property
    def about(self) -> str:
        """Describe the data in a few words."""
        robot = f", a robot of {len(self.robot.joints)} joints" if self.robot else ""
        return f"{len(self.layout.columns)} columns{robot}"

    @property
    def robot(self) -> Robot | None:
        """The robot; None if there is no URDF file."""
        return _robot(self.urdf) if self.urdf else None

    def read(self, path: Path) -> np.ndarray:
        """Return the features of a table, float32 [T, C]; see `Format.read`."""
        return self.features(*self.reading.read(path, list(self.layout.columns)))

    def features(self, values: np.ndarray, rate: float) -> np.ndarray:
        """Return the features of the values of a table, float32 [T, C].

        Raises:
            DataError: if its frames per second are others.
        """
        if not np.isclose(rate, self.rate, rtol=SAME_CLOCK):
            raise DataError(f"it has {rate:.4g} frames per second, but the model's motions {self.rate:.4g}")
        return self.layout.features(values)[0]

    def values(self, features: np.ndarray) -> np.ndarray:
        """Return the values of features [T, C] in the order of the columns, [T, K]; a root starts at the origin."""
        return self.layout.values(features, Start())

    def write(self, path: Path, features: np.ndarray) -> None:
        """Write a table that starts at the origin."""
        names = tuple(column.name for column in self.layout.columns) if self.reading.header else ()
        write_table(path, Table(names, self.values(features)))

    def moved(self, features: np.ndarray) -> Moved:
        """Return the rotations, the angles and, given a robot, the links' positions of features [T, C]."""
        layout, robot, values = self.layout, self.robot, self.values(features)
        groups = [*([layout.root[1]] if layout.root else []), *layout.quaternions]
        rotations = [quaternion_to_matrix(values[:, group]) for group in groups]
        angular = [index for index, column in enumerate(layout.columns) if column.kind in ("angle", "wrapping angle")]
        radians = np.array([UNITS[layout.columns[index].unit] for index in angular])
        positions = self._pose(robot, values).positions * 100 if robot else None
        feet = find_feet(robot.links) if robot else []
        return Moved(
            np.stack(rotations, 1) if rotations else np.zeros((len(values), 0, 3, 3)),
            values[:, angular] * radians,
            positions,
            positions[:, feet] if positions is not None and feet else None,
        )

    def figure(self, name: str, features: np.ndarray) -> StickFigure | None:
        """Return the stick figure of the robot; None if there is no URDF file."""
        robot = self.robot
        if robot is None:
            return None
        return robot_figure(name, robot, self._pose(robot, self.values(features)))

    def _pose(self, robot: Robot, values: np.ndarray) -> Pose:
        return robot.pose(*self.states(robot, values))

    def states(self, robot: Robot, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the states of a robot whose values are [T, K].

        Returns:
            the position of the base in metres, [T, 3]; its rotation as quaternions (x, y, z, w),
            [T, 4]; and the angles of the joints in radians, [T, J].
        """
        columns = self.layout.columns
        indices = robot.find_joints([column.name for column in columns])
        radians = np.array([UNITS[columns[index].unit] for index in indices])
        root = self.layout.root
        base = values[:, root[0]] * (self.unit_cm / 100) if root else np.zeros((len(values), 3))
        turned = values[:, root[1]] if root else np.tile([0.0, 0.0, 0.0, 1.0], (len(values), 1))
        return base, turned, values[:, indices] * radians


@lru_cache(maxsize=4)
def _robot(urdf: str) -> Robot:
    return read_urdf(urdf.encode())
