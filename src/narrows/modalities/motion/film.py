"""Films of stick figures side by side, GIF or MP4 (H.264), in the colours of a report page in light mode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from narrows.data.films import require_av, save_gif, save_mp4
from narrows.modalities.motion.figure import StickFigure
from narrows.modalities.motion.projection import HALF, View, floor_lines, on_floor, project
from narrows.modalities.motion.root import Up
from narrows.modalities.motion.scene import Actor, Scene, scene_of

__all__ = ["SIDE", "drawn", "titles", "write_stick_film"]

GROUND, INK, MUTED, GRID, FIRST, SECOND = "#fcfcfa", "#1c2126", "#667078", "#c8cbcc", "#0f6f86", "#d39a5a"
COLOURS = 48
SIDE, HEAD = 320, 28
"""Side of a figure's picture, and height of its name above it, in pixels; even numbers, as H.264 requires."""
FINER = 2
"""Pixels drawn per pixel in each direction, which are then averaged, since Pillow draws no soft edges."""


def write_stick_film(path: Path, figures: Sequence[StickFigure], rate: float, up: Up, view: View | None = None) -> None:
    """Write figures, side by side, as a GIF or MP4 film, by the suffix of the path; see `narrows.data.films`.

    Args:
        path: the file.
        figures: at least one; a shorter one stays in its last pose until the end.
        rate: frames per second of their positions; the film has at most 30.
        up: the vertical axis.
        view: the direction of the camera.

    Raises:
        NarrowsError: if PyAV is needed and not installed.
    """
    scene = scene_of(figures, rate, up)
    frames = _frames(scene, view or View())
    if path.suffix == ".gif":
        save_gif(path, frames, scene.rate, COLOURS)
    else:
        require_av("motion")
        save_mp4(path, frames, scene.rate)


def drawn(actor: Actor, frame: int, cell: float, view: View) -> np.ndarray:
    """Return the picture of one figure in one frame, uint8 [320, 320, 3].

    Args:
        actor: the figure on its stage.
        frame: index of the frame; after the last one, the last pose.
        cell: side of a square of the floor's grid in stage units.
        view: the direction of the camera.
    """
    frame = min(frame, len(actor.points) - 1)
    points, target = actor.points[frame], actor.targets[frame]
    size = SIDE * FINER
    picture = Image.new("RGB", (size, size), GROUND)
    draw = ImageDraw.Draw(picture)

    def line(ends: np.ndarray, colour: str, width: float) -> None:
        ends = size / 2 * (1 + ends[:, :2] * [1, -1] / HALF)
        thick = max(1, round(width * FINER))
        draw.line([tuple(end) for end in ends.tolist()], colour, thick, "curve")
        for x, y in ends[[0, -1]].tolist():
            draw.circle((x, y), (thick - 1) / 2, colour)

    for ends in project(floor_lines(target, cell), target, view):
        line(ends, GRID, 1)
    path = actor.points[:, 0] * [1, 1, 0]
    near = on_floor(path, target)
    seen = project(path, target, view)
    for start in np.flatnonzero(near[:-1] & near[1:]):
        line(seen[start : start + 2], MUTED, 1)
    line(seen[[frame, frame]], MUTED, 6)
    seen = project(points, target, view)
    marked = set(actor.figure.marked)
    bones = [(seen[list(bone)], SECOND if index in marked else FIRST) for index, bone in enumerate(actor.figure.bones)]
    for ends, colour in sorted(bones, key=lambda bone: bone[0][:, 2].sum()):
        line(ends, colour, 3)
    return np.asarray(picture.reduce(FINER))


def _frames(scene: Scene, view: View) -> Iterator[np.ndarray]:
    """Yield the pictures of all figures with their names, uint8 [H, W, 3]."""
    heads = titles([actor.figure.name for actor in scene.actors])
    for frame in range(scene.frames):
        row = [drawn(actor, frame, scene.cell, view) for actor in scene.actors]
        yield np.concatenate([heads, np.concatenate(row, 1)])


def titles(names: Sequence[str]) -> np.ndarray:
    """Return the names of figures side by side as a picture above them, uint8 [28, 320 N, 3]."""
    return np.concatenate([_head(name) for name in names], 1)


def _head(name: str) -> np.ndarray:
    """Return a name in the middle of a line, uint8 [28, 320, 3]; the end of a long one is cut off."""
    picture = Image.new("RGB", (SIDE, HEAD), GROUND)
    draw, text = ImageDraw.Draw(picture), " ".join(name.split())
    width = draw.textlength(text, _font())
    draw.text((max(8.0, (SIDE - width) / 2), HEAD / 2 + 2), text, INK, _font(), anchor="lm")
    return np.asarray(picture)


@cache
def _font() -> ImageFont.FreeTypeFont:
    """Return a font with most of the world's alphabets, which is installed with matplotlib."""
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), 14)
