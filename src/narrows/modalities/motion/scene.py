"""Figures side by side on one stage: equal units, a floor at height 0, and a camera that follows each of them.

The first figure of a row sets the floor and the unit of length, so that the others can be compared with it. The camera
follows the smoothed path of the root, so that it does not sway with each step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from narrows.modalities.motion.figure import StickFigure
from narrows.modalities.motion.projection import View
from narrows.modalities.motion.root import Up
from narrows.modalities.motion.rotations import AXES

__all__ = ["Actor", "Scene", "scene_of", "shown_stride"]

FASTEST = 30
"""Frames per second that are shown; of faster motions every second, third, ... frame is."""
SMOOTHING = 0.5
"""Standard deviation of the smoothing of the camera's path, in seconds."""
SHOWN_PITCH = math.radians(View().pitch)


@dataclass(frozen=True, eq=False)
class Actor:
    """A figure on the stage.

    Args:
        figure: the figure.
        points: its joints in stage units, the third axis up, float64 [T, J, 3].
        targets: the points the camera looks at, float64 [T, 3].
    """

    figure: StickFigure
    points: np.ndarray
    targets: np.ndarray


@dataclass(frozen=True, eq=False)
class Scene:
    """Figures that are shown side by side, in step.

    Args:
        actors: the figures.
        rate: frames per second, at most 30.
        cell: side of a square of the floor's grid in stage units; 1, 2 or 5 times a power of ten in the figures' unit.
    """

    actors: Sequence[Actor]
    rate: float
    cell: float

    @property
    def frames(self) -> int:
        """The number of frames of the longest figure; a shorter one stays in its last pose."""
        return max(len(actor.points) for actor in self.actors)


def shown_stride(rate: float) -> int:
    """Return n of motions with a number of frames per second, of which every n-th frame is shown."""
    return max(1, math.ceil(rate / FASTEST - 1e-3))  # frame times such as 0.00833333 s are not exact


def scene_of(figures: Sequence[StickFigure], rate: float, up: Up) -> Scene:
    """Put figures on one stage.

    Args:
        figures: at least one.
        rate: frames per second of their positions.
        up: the vertical axis of their positions.
    """
    stride = shown_stride(rate)
    shown = rate / stride
    vertical = AXES.index(up.upper())
    axes = [(vertical + 1) % 3, (vertical + 2) % 3, vertical]
    placed = [figure.positions[::stride, :, axes].astype(np.float64) for figure in figures]
    paths = [gaussian_filter1d(points[:, 0, :2], SMOOTHING * shown, axis=0, mode="nearest") for points in placed]
    floor, top = placed[0][..., 2].min(), placed[0][..., 2].max()
    around = np.sqrt(((placed[0][..., :2] - paths[0][:, None]) ** 2).sum(2)).max()
    tall = (top - floor) / 2 * math.cos(SHOWN_PITCH) + around * math.sin(SHOWN_PITCH)
    unit = max(float(tall), float(around)) or 1.0
    actors = []
    for figure, points, path in zip(figures, placed, paths, strict=True):
        middle = np.full(len(path), (top - floor) / 2 / unit)
        actors.append(Actor(figure, (points - [0, 0, floor]) / unit, np.column_stack([path / unit, middle])))
    return Scene(actors, shown, _round_number(unit / 2) / unit)


def _round_number(least: float) -> float:
    """Return the smallest number of 1, 2 and 5 times a power of ten that is at least `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))
