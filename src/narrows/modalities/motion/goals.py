"""Goals for a motion, and by how much motions miss them: a path, a place, a heading, a pose or a velocity.

A motion starts at the origin with heading 0. Misses are in cm, degrees and cm/s, so that a goal's weight says how many
centimetres a degree is worth. Everything is computed for N motions at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple

import numpy as np

from narrows.modalities.motion.errors import angle_errors
from narrows.modalities.motion.formats import ROOT_SPEEDS, Format
from narrows.modalities.motion.root import Start, Up, root_path

__all__ = [
    "UNITS",
    "Costs",
    "Goal",
    "Goals",
    "HeadingGoal",
    "MotionBatch",
    "PathGoal",
    "PoseGoal",
    "PositionGoal",
    "VelocityGoal",
    "horizontal_axes",
]

UNITS = {"cm": 1.0, "m": 100.0, "mm": 0.1, "deg": 1.0, "rad": 180 / np.pi, "cm/s": 1.0, "m/s": 100.0}
"""How many cm, degrees or cm/s a unit is."""


def horizontal_axes(up: Up) -> str:
    """Return the two horizontal axes in the order of the alphabet, the order of coordinates in goals: xy, xz or yz."""
    return "xyz".replace(up, "")


@dataclass(frozen=True, eq=False)
class MotionBatch:
    """N motions of equal length.

    Args:
        features: float [N, T, C].
        form: what they mean.
    """

    features: np.ndarray
    form: Format

    @cached_property
    def track(self) -> tuple[np.ndarray, np.ndarray]:
        """The places of the root along `horizontal_axes` in cm, [N, T, 2], and its headings in degrees, [N, T]."""
        place, heading = root_path(self.features, self.form.rate, Start())
        # The first of the root's two axes follows the vertical one in the circle x, y, z: z before x if y is up.
        parts = [place.imag, place.real] if self.form.up == "y" else [place.real, place.imag]
        return np.stack(parts, -1) * self.form.unit_cm, np.rad2deg(heading)


@dataclass(frozen=True, eq=False, kw_only=True)
class Goal(ABC):
    """A goal for a motion.

    Args:
        unit: the unit of the goal in words and figures, one of `UNITS`.
        within: the miss in this unit up to which the goal counts as met.
        weight: cost of a miss of 1 cm, 1 degree or 1 cm/s.

    Attributes:
        name: the name in files and figures.
    """

    unit: str
    within: float
    weight: float = 1.0

    name: ClassVar[str]

    @abstractmethod
    def miss(self, motions: MotionBatch) -> np.ndarray:
        """Return by how much each motion misses the goal, in cm, degrees or cm/s, [N]."""


@dataclass(frozen=True, eq=False, kw_only=True)
class PathGoal(Goal):
    """A path of the root over time; the miss is the mean distance over its frames.

    Args:
        places: along `horizontal_axes` in cm, one for each frame from `first` on, [F, 2].
        first: the frame of the first place.
    """

    places: np.ndarray
    first: int

    name = "path"

    def miss(self, motions: MotionBatch) -> np.ndarray:
        """Return the mean distance from the path in cm, [N]."""
        places = motions.track[0][:, self.first : self.first + len(self.places)]
        return np.linalg.norm(places - self.places, axis=2).mean(1)


@dataclass(frozen=True, eq=False, kw_only=True)
class PositionGoal(Goal):
    """A place of the root at a frame.

    Args:
        place: along `horizontal_axes` in cm, [2].
        at: the frame.
    """

    place: np.ndarray
    at: int

    name = "position"

    def miss(self, motions: MotionBatch) -> np.ndarray:
        """Return the distance from the place in cm, [N]."""
        return np.linalg.norm(motions.track[0][:, self.at] - self.place, axis=1)


@dataclass(frozen=True, eq=False, kw_only=True)
class HeadingGoal(Goal):
    """A heading of the root at a frame.

    Args:
        angle: in degrees, counter-clockwise as seen from above, from the heading at the start.
        at: the frame.
    """

    angle: float
    at: int

    name = "heading"

    def miss(self, motions: MotionBatch) -> np.ndarray:
        """Return the angle between the headings in degrees, 0 to 180, [N]."""
        return np.abs((motions.track[1][:, self.at] - self.angle + 180) % 360 - 180)


@dataclass(frozen=True, eq=False, kw_only=True)
class PoseGoal(Goal):
    """A pose at a frame, wherever the root is and in whichever direction it heads; its height and tilt count.

    Args:
        pose: the features of a frame with the pose, [C].
        at: the frame.
    """

    pose: np.ndarray
    at: int

    name = "pose"

    def miss(self, motions: MotionBatch) -> np.ndarray:
        """Return the mean distance of the joints in cm, [N]; if their positions are unknown, the mean angle."""
        found = motions.form.moved(_standing(motions.features[:, self.at], motions.form))
        wanted = motions.form.moved(_standing(self.pose[None], motions.form))
        if found.positions is not None and wanted.positions is not None:
            return np.linalg.norm(found.positions - wanted.positions, axis=2).mean(1)
        return angle_errors(found, wanted).mean(1)


def _standing(features: np.ndarray, form: Format) -> np.ndarray:
    """Return frames [N, C] without the root's speeds: as one motion, each is at the origin with heading 0."""
    standing = features.astype(np.float64)
    if form.has_root:
        standing[:, ROOT_SPEEDS] = 0
    return standing


@dataclass(frozen=True, eq=False, kw_only=True)
class VelocityGoal(Goal):
    """A mean velocity of the root over some frames.

    Args:
        velocity: along `horizontal_axes` in cm/s, [2].
        first: the first frame.
        last: the last frame, after the first.
    """

    velocity: np.ndarray
    first: int
    last: int

    name = "velocity"

    def miss(self, motions: MotionBatch) -> np.ndarray:
        """Return the length of the difference of the velocities in cm/s, [N]."""
        moved = motions.track[0][:, self.last] - motions.track[0][:, self.first]
        return np.linalg.norm(moved / self.seconds(motions.form) - self.velocity, axis=1)

    def seconds(self, form: Format) -> float:
        """Return the duration from the first to the last frame."""
        return (self.last - self.first) / form.rate


class Costs(NamedTuple):
    """The costs of N motions."""

    total: np.ndarray
    """The sum of the misses times their weights, [N]."""
    misses: dict[str, np.ndarray]
    """By how much they miss each goal in its own unit, by its name, [N] each."""


@dataclass(frozen=True, eq=False)
class Goals:
    """Goals that one motion should meet together, at most one of each kind."""

    parts: Sequence[Goal]

    def costs(self, motions: MotionBatch) -> Costs:
        """Return the costs of motions."""
        misses = {goal.name: goal.miss(motions) for goal in self.parts}
        total = sum((goal.weight * misses[goal.name] for goal in self.parts), start=np.zeros(len(motions.features)))
        return Costs(total, {goal.name: misses[goal.name] / UNITS[goal.unit] for goal in self.parts})

    def missed(self, misses: dict[str, float]) -> list[str]:
        """Return in words each goal that misses in its own unit do not meet, such as `position by 1.3 m`."""
        return [
            f"{goal.name} by {misses[goal.name]:.3g} {goal.unit}"
            for goal in self.parts
            if not misses[goal.name] <= goal.within
        ]
