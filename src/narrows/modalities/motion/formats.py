"""What a model knows of the files of its data: how motions in them become features, and features such files again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from narrows.data.errors import DataError
from narrows.modalities.motion.figure import StickFigure
from narrows.modalities.motion.root import Up

__all__ = ["ROOT_SPEEDS", "Format", "Moved", "read_bytes", "require_frames"]

ROOT_SPEEDS = [0, 1, 3]
"""The features of the root that say where it goes: two speeds, and the yaw rate."""


class Moved(NamedTuple):
    """The joints of a motion."""

    rotations: np.ndarray
    """Rotation matrices [T, R, 3, 3], relative to the parent."""
    angles: np.ndarray
    """Angles of joints with one axis, in radians, [T, A]."""
    positions: np.ndarray | None
    """Positions of the joints in the world, in cm, [T, J, 3]; None if the kinematics are unknown."""
    feet: np.ndarray | None = None
    """Positions of the joints of the feet, and of their end sites, in the world, in cm, [T, F, 3]; None if no joint has
    the name of one."""


class Format(ABC):
    """The files of a data set.

    Attributes:
        suffix: suffix of the files written.
        rate: frames per second of the features.
        up: the vertical axis.
        unit_cm: centimetres per unit of length in the files.
        has_root: whether the first features are those of a root; see `root_features`.
    """

    suffix: ClassVar[str]
    rate: float
    up: Up
    unit_cm: float
    has_root: bool

    @property
    @abstractmethod
    def size(self) -> int:
        """C, number of features."""

    @property
    @abstractmethod
    def details(self) -> dict[str, Any]:
        """The format as JSON values."""

    @abstractmethod
    def read(self, path: Path) -> np.ndarray:
        """Return the features of a file, float32 [T, C].

        Raises:
            DataError: if it cannot be read, or has another skeleton, other columns, or another frame rate.
        """

    @abstractmethod
    def write(self, path: Path, features: np.ndarray) -> None:
        """Write features [T, C], which may be imperfect; the motion starts at the origin."""

    @abstractmethod
    def moved(self, features: np.ndarray) -> Moved:
        """Return the joints of features [T, C]; the motion starts at the origin."""

    @abstractmethod
    def figure(self, name: str, features: np.ndarray) -> StickFigure | None:
        """Return the stick figure of features [T, C]; None if the kinematics are unknown."""

    @property
    @abstractmethod
    def about(self) -> str:
        """Describe the data in a few words."""


def read_bytes(path: Path) -> bytes:
    """Return the content of a file.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"it cannot be read: {error}") from error


def require_frames(count: int, skipped: int) -> None:
    """Raise a `DataError` if none of a number of frames is left after those that are skipped."""
    if not count:
        raise DataError("it has no frames")
    if skipped >= count:
        raise DataError(f"it has {count} frames, all of which data.skip_frames={skipped} leaves out")
