"""Stick figures on a page: rows of figures that play in step, and turn when one of them is dragged.

The positions are int16 numbers in base64. A figure of 30 joints takes 7.4 kB per second of 30 frames, less than half
of what decimal numbers of the same precision take; within 10 m of the origin, they are exact to 0.2 mm. Without
scripts, a page shows a few poses of each figure.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from narrows.modalities.motion.figure import StickFigure
from narrows.modalities.motion.projection import DISTANCE, HALF, NEAREST, RADIUS, View, project
from narrows.modalities.motion.root import Up
from narrows.modalities.motion.scene import Actor, scene_of
from narrows.report.page import Block

__all__ = ["StickFigures"]

POSES = 5
"""The most poses of the picture that is shown without scripts."""
LEVELS = 32767


@dataclass(frozen=True, eq=False)
class StickFigures(Block):
    """Moving stick figures, row by row.

    Args:
        caption: the caption.
        rows: figures shown side by side and played in step, such as an original and its reconstruction. The first of
            a row sets the scale and the height of the floor; a shorter one stays in its last pose.
        rate: frames per second of the positions. At most 30 are stored: of faster motions, every second, third, ...
        up: the vertical axis of the positions.
        view: the direction of the camera until a figure is dragged.

    Raises:
        ValueError: if there are no rows, a row has no figures, or the rate is not positive.
    """

    caption: str
    rows: Sequence[Sequence[StickFigure]]
    rate: float
    up: Up = "y"
    view: View = field(default_factory=View)

    scripts = ("sticks.js",)

    def __post_init__(self) -> None:
        if not self.rows or not all(self.rows):
            raise ValueError(f"The figures {self.caption!r} need at least one row, and every row at least one figure.")
        if not 0 < self.rate < float("inf"):
            raise ValueError(f"The rate of the figures {self.caption!r} must be positive; got {self.rate}.")

    @property
    def columns(self) -> int:
        """The number of figures in the longest row, which all rows share as columns."""
        return max(map(len, self.rows))

    @property
    def camera(self) -> str:
        """The constants of the projection, for the script, as JSON."""
        camera = {"distance": DISTANCE, "nearest": NEAREST, "half": HALF, "radius": RADIUS}
        return json.dumps(camera | self.view._asdict())

    @property
    def scenes(self) -> Iterator[_Scene]:
        """The rows as the template shows them."""
        for row in self.rows:
            scene = scene_of(row, self.rate, self.up)
            cells = [self._cell(actor, scene.rate) for actor in scene.actors]
            yield _Scene(", ".join(cell.name for cell in cells), scene.rate, scene.frames, scene.cell, cells)

    def _cell(self, actor: Actor, rate: float) -> _Cell:
        points = np.concatenate([actor.points, actor.targets[:, None]], 1)
        data, scale = _packed(points)
        figure, frames = actor.figure, len(actor.points)
        shown = np.unique(np.linspace(0, frames - 1, POSES).round().astype(int)).tolist()
        poses = [_pose(actor, frame, self.view) for frame in shown]
        bones = json.dumps([[*bone, int(index in figure.marked)] for index, bone in enumerate(figure.bones)])
        return _Cell(figure.name, frames / rate, data, points.shape[1], scale, bones.replace(" ", ""), poses)


class _Pose(NamedTuple):
    """The bones of a pose as SVG paths, in a square of 200 about the origin, and the height of the floor."""

    first: str
    second: str
    floor: float


class _Cell(NamedTuple):
    """A figure for the template; `data` has `joints` points a frame, the last the camera's target."""

    name: str
    seconds: float
    data: str
    joints: int
    scale: float
    bones: str
    poses: list[_Pose]


class _Scene(NamedTuple):
    """A row for the template; `cell` is the side of a square of the floor."""

    names: str
    rate: float
    frames: int
    cell: float
    cells: list[_Cell]


def _packed(points: np.ndarray) -> tuple[str, float]:
    """Return points as int16 levels, little-endian, in base64, and the size of a level."""
    scale = float(np.abs(points).max()) / LEVELS or 1.0
    return base64.b64encode((points / scale).round().astype("<i2").tobytes()).decode("ascii"), scale


def _pose(actor: Actor, frame: int, view: View) -> _Pose:
    target = actor.targets[frame]
    seen = project(actor.points[frame], target, view)[:, :2] * [1, -1] * 100 / HALF
    first, second = "", ""
    for index, (start, end) in enumerate(actor.figure.bones):
        (a, b), (c, d) = seen[[start, end]].round(1).tolist()
        line = f"M{a:g} {b:g}L{c:g} {d:g}"
        first, second = (first, second + line) if index in actor.figure.marked else (first + line, second)
    floor = project(target * [1, 1, 0], target, view)[1] * -100 / HALF
    return _Pose(first, second, round(float(floor), 1))
