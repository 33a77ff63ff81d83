"""Goals from a file: a YAML file with a mapping for each goal, or a CSV file with a path.

    path: {file: path.csv}                             # or points: [[SECONDS, X, Y], ...]
    position: {to: [1.2, 0.3], unit: m, within: 0.1}   # at the last frame, unless `at` gives another one
    heading: {to: 45, unit: deg, at: 40}
    pose: {file: walk.bvh, frame: 120, weight: 2}
    velocity: {to: [1.0, 0.0], unit: m/s, from: 0, at: 30}

Every goal also takes `weight` (1), `unit` (cm, deg or cm/s) and `within` (10 cm, 10 degrees, 20 cm/s), the miss up to
which it counts as met. A path is a table with the columns time (seconds) and the two horizontal axes. Frames count from
0; those of the file of a pose after a bind pose that is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from narrows.data.errors import DataError
from narrows.files import read_yaml
from narrows.modalities.motion.formats import Format
from narrows.modalities.motion.goals import (
    UNITS,
    Goal,
    Goals,
    HeadingGoal,
    PathGoal,
    PoseGoal,
    PositionGoal,
    VelocityGoal,
    horizontal_axes,
)
from narrows.modalities.motion.tables import SUFFIXES, read_table

__all__ = ["read_goals"]

WITHIN = {"cm": 10.0, "deg": 10.0, "cm/s": 20.0}
"""The miss up to which a goal counts as met by default, in cm, degrees or cm/s."""
ALIKE = {"cm": ("cm", "m", "mm"), "deg": ("deg", "rad"), "cm/s": ("cm/s", "m/s")}
"""The units of each quantity."""
COMMON = ("weight", "unit", "within")


def read_goals(path: Path, form: Format, frames: int) -> Goals:
    """Read goals for motions of a number of frames.

    Raises:
        NarrowsError: naming the goal and the key, if the file cannot be read, has a goal, key or unit that is unknown,
            a value that is no number, or a frame that does not exist; or if the motions lack what a goal is about, or
            a pose is of another skeleton.
    """
    if path.name.lower().endswith(SUFFIXES):
        content: dict[str, Any] = {"path": {"file": path.name}}
    else:
        content = read_yaml(path)
    if not content:
        raise DataError(f"{path} has no goals: known are {', '.join(READERS)}")
    parts = []
    for name, settings in content.items():
        if name not in READERS:
            raise DataError(f"{path}: {name!r} is not a goal: known are {', '.join(READERS)}")
        if not isinstance(settings, dict):
            raise DataError(f"{path}: {name} must be a mapping, such as {name}: {{weight: 1}}")
        try:
            parts.append(READERS[name](_Entry(settings, path.parent, form, frames)))
        except DataError as error:
            raise DataError(f"{path}: {name}: {error}") from error
    return Goals(parts)


@dataclass(frozen=True)
class _Entry:
    """The settings of one goal.

    Args:
        settings: as in the file.
        folder: the folder that the names of files are relative to.
        form: what the features of the motions mean.
        frames: T, their number of frames.
    """

    settings: Mapping[str, Any]
    folder: Path
    form: Format
    frames: int

    def check_keys(self, *own: str) -> None:
        """Check that all keys are known."""
        if unknown := [key for key in self.settings if key not in (*own, *COMMON)]:
            raise DataError(f"{unknown[0]!r} is not a setting of it: known are {', '.join((*own, *COMMON))}")

    def common(self, quantity: str) -> dict[str, Any]:
        """Return weight, unit and tolerance of a goal that is measured in cm, deg or cm/s."""
        unit = self.settings.get("unit", quantity)
        if unit not in ALIKE[quantity]:
            raise DataError(f"unit is {unit!r}: it must be one of {', '.join(ALIKE[quantity])}")
        found = {"weight": self.number("weight", 1.0), "within": self.number("within", WITHIN[quantity] / UNITS[unit])}
        for key, value in found.items():
            if value < 0:
                raise DataError(f"{key} is {value:g}: it must be at least 0")
        return {"unit": unit, **found}

    def number(self, key: str, default: float | None = None) -> float:
        """Return a number."""
        return self.numbers([self.settings.get(key, default)], key)[0]

    def numbers(self, values: Any, key: str, count: int = 1) -> list[float]:
        """Return numbers after checking them."""
        wanted = "a number" if count == 1 else f"{count} numbers"
        right = isinstance(values, list) and len(values) == count
        if not right or not all(isinstance(one, int | float) and not isinstance(one, bool) for one in values):
            found = values[0] if isinstance(values, list) and len(values) == count == 1 else values
            given = f"{key} is {found!r}" if key in self.settings else f"{key} is missing"
            raise DataError(f"{given}: it must be {wanted}")
        if not np.isfinite(values).all():
            raise DataError(f"{key} is {values!r}: it must be finite")
        return [float(one) for one in values]

    def frame(self, key: str, default: int) -> int:
        """Return a frame of the motions; negative ones count from the end."""
        return _frame(self.settings.get(key, default), key, self.frames, "the motion")

    def require_root(self) -> None:
        """Check that the motions have a root."""
        if not self.form.has_root:
            raise DataError("the model's data have no position and quaternion of a root, so only a pose can be a goal")

    def pair(self, unit: str) -> np.ndarray:
        """Return the two numbers of `to` in cm or cm/s."""
        return np.array(self.numbers(self.settings.get("to"), "to", 2)) * UNITS[unit]


def _frame(value: Any, key: str, frames: int, whose: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not -frames <= value < frames:
        raise DataError(f"{key} is {value!r}: {whose} has the frames 0 to {frames - 1} (-1 is the last)")
    return value % frames


def _path(entry: _Entry) -> Goal:
    entry.check_keys("file", "points")
    entry.require_root()
    common, axes = entry.common("cm"), horizontal_axes(entry.form.up)
    if ("file" in entry.settings) == ("points" in entry.settings):
        raise DataError("it needs either a file or points")
    if "file" in entry.settings:
        file = entry.folder / str(entry.settings["file"])
        try:
            points = read_table(file, ["time", *axes]).values
        except DataError as error:
            raise DataError(f"{file}: {error}") from error
    else:
        given = entry.settings["points"]
        if not isinstance(given, list) or not given:
            raise DataError("points must be a list of [seconds, " + ", ".join(axes) + "]")
        points = np.array([entry.numbers(point, "points", 3) for point in given])
    times, last = points[:, 0], (entry.frames - 1) / entry.form.rate
    if (np.diff(times) <= 0).any():
        raise DataError("its times do not rise from point to point")
    if not 0 <= times[0] <= times[-1] <= last + 0.5 / entry.form.rate:
        raise DataError(
            f"its times are from {times[0]:.4g} to {times[-1]:.4g} s, but the motion's are from 0 to {last:.4g} s; the "
            "windows that a prior was fitted to set how long its motions are (`narrows prior RUN --data.window=FRAMES`)"
        )
    first, end = (round(float(time) * entry.form.rate) for time in times[[0, -1]])
    moments = np.arange(first, min(end, entry.frames - 1) + 1) / entry.form.rate
    places = np.stack([np.interp(moments, times, points[:, column]) for column in (1, 2)], 1)
    return PathGoal(places=places * UNITS[common["unit"]], first=first, **common)


def _position(entry: _Entry) -> Goal:
    entry.check_keys("to", "at")
    entry.require_root()
    common = entry.common("cm")
    return PositionGoal(place=entry.pair(common["unit"]), at=entry.frame("at", -1), **common)


def _heading(entry: _Entry) -> Goal:
    entry.check_keys("to", "at")
    entry.require_root()
    common = entry.common("deg")
    return HeadingGoal(angle=entry.number("to") * UNITS[common["unit"]], at=entry.frame("at", -1), **common)


def _pose(entry: _Entry) -> Goal:
    entry.check_keys("file", "frame", "at")
    if not isinstance(entry.settings.get("file"), str):
        raise DataError("file is missing: it must be the name of a motion file")
    file = entry.folder / entry.settings["file"]
    try:
        features = entry.form.read(file)
    except DataError as error:
        raise DataError(f"{file}: {error}") from error
    pose = features[_frame(entry.settings.get("frame", 0), "frame", len(features), str(file))]
    moved = entry.form.moved(pose[None].astype(np.float64))
    if moved.positions is None and not moved.rotations.shape[1] + moved.angles.shape[1]:
        raise DataError("the model's data have neither positions of joints nor angles, so a pose cannot be a goal")
    quantity = "deg" if moved.positions is None else "cm"
    return PoseGoal(pose=pose, at=entry.frame("at", -1), **entry.common(quantity))


def _velocity(entry: _Entry) -> Goal:
    entry.check_keys("to", "from", "at")
    entry.require_root()
    common, first, last = entry.common("cm/s"), entry.frame("from", 0), entry.frame("at", -1)
    if first >= last:
        raise DataError(f"from is frame {first}, which is not before frame {last}")
    return VelocityGoal(velocity=entry.pair(common["unit"]), first=first, last=last, **common)


READERS: Mapping[str, Callable[[_Entry], Goal]] = {
    "path": _path,
    "position": _position,
    "heading": _heading,
    "pose": _pose,
    "velocity": _velocity,
}
