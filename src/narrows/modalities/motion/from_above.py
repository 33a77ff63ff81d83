"""The paths of motions from above, with the goals that are on the ground."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from narrows.modalities.motion.formats import Format
from narrows.modalities.motion.goals import (
    Goal,
    Goals,
    HeadingGoal,
    MotionBatch,
    PathGoal,
    PositionGoal,
    VelocityGoal,
    horizontal_axes,
)
from narrows.modalities.motion.root import Up
from narrows.report.page import Figure
from narrows.report.svg import ACCENT, MUTED, RULE, SECOND, canvas, to_svg

__all__ = ["from_above"]

SIDE, HEAD = 440, 8
"""Width of the picture in pixels, and by how much it is higher, so that its axes are a square."""
HEADING = 0.2
"""Length of the line of a heading, as a share of half the picture."""


def from_above(motions: Sequence[MotionBatch], goals: Goals) -> Figure:
    """Return a drawing of the paths of motions, one in each batch, the best first, and of the goals."""
    form = motions[0].form
    axis = horizontal_axes(form.up)
    drawing, axes = canvas(f"From above, cm: {axis[0]} across, {axis[1]} along", SIDE, SIDE + HEAD)
    for number, (text, colour) in enumerate((("best", ACCENT), ("others", MUTED), ("goal", SECOND))):
        drawing.text(90 * number / SIDE, 1 - 28 / (SIDE + HEAD), text, fontsize=11, color=colour)
    paths = [motion.track[0][0] for motion in motions]
    wanted = [_wanted(goal, paths[0], form) for goal in goals.parts]
    middle, half = _view(np.concatenate([*paths, *wanted, np.zeros((1, 2))]))
    for number, path in reversed(list(enumerate(paths))):
        axes.plot(*path.T, color=MUTED if number else ACCENT, linewidth=0.8 if number else 1.8)
    for goal, places in zip(goals.parts, wanted, strict=True):
        marker = "o" if len(places) == 1 else None
        axes.plot(*places.T, color=SECOND, linewidth=2.4, marker=marker, markersize=8, linestyle="--")
        if isinstance(goal, HeadingGoal):
            at = next((one.place for one in goals.parts if isinstance(one, PositionGoal)), paths[0][goal.at])
            _draw_heading(axes, at, goal.angle, HEADING * half, form.up, SECOND)
            _draw_heading(
                axes, paths[0][goal.at], float(motions[0].track[1][0, goal.at]), HEADING * half, form.up, ACCENT
            )
    axes.plot(0, 0, color=MUTED, marker="+", markersize=9)
    # From above, z points towards the lower edge if y is up and x points to the right.
    side = -half if form.up == "y" else half
    axes.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - side, middle[1] + side))
    axes.grid(axis="x", color=RULE, linewidth=1)
    caption = "Paths of the root from above; every motion starts at the cross. Short lines are headings."
    return Figure(caption, to_svg(drawing))


def _view(places: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the middle of a square around places [P, 2], and half of its side, at least 10 cm."""
    low, high = places.min(0), places.max(0)
    return (low + high) / 2, max(10.0, 0.6 * float(np.max(high - low)))


def _wanted(goal: Goal, best: np.ndarray, form: Format) -> np.ndarray:
    """Return the places that a goal asks for, [P, 2]; those of a velocity start where the best motion is."""
    if isinstance(goal, PathGoal):
        return goal.places
    if isinstance(goal, PositionGoal):
        return goal.place[None]
    if isinstance(goal, VelocityGoal):
        return np.stack([best[goal.first], best[goal.first] + goal.velocity * goal.seconds(form)])
    return np.zeros((0, 2))


def _draw_heading(axes: Axes, at: np.ndarray, heading: float, length: float, up: Up, colour: str) -> None:
    """Draw a heading in degrees; 0 is along the first axis after the vertical one in the circle x, y, z."""
    towards = np.array([np.cos(np.deg2rad(heading)), np.sin(np.deg2rad(heading))])
    end = at + length * (towards[::-1] if up == "y" else towards)
    axes.plot(*zip(at, end, strict=True), color=colour, linewidth=2.4 if colour == SECOND else 1.2)
