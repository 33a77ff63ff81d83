"""Films of stick figures, opened by the libraries that others play them with."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from narrows.errors import NarrowsError
from narrows.modalities.motion.figure import StickFigure
from narrows.modalities.motion.film import FIRST, HEAD, SECOND, SIDE, drawn, write_stick_film
from narrows.modalities.motion.projection import HALF, View, project
from narrows.modalities.motion.scene import scene_of


def pendulum(name: str, frames: int) -> StickFigure:
    """Two rods from a point at height 2, z up; one swings."""
    angles = np.linspace(-1, 1, frames)
    positions = np.zeros((frames, 3, 3))
    positions[:, 0, 2], positions[:, 2] = 2, [1, 1, 0]
    positions[:, 1, 1], positions[:, 1, 2] = np.sin(angles), 2 - np.cos(angles)
    return StickFigure(name, positions, [(0, 1), (0, 2)], (1,))


@pytest.mark.parametrize("view", [View(0, 0), View(30, 15), View(100, 60)])
def test_bones_are_drawn_where_they_are_projected(view: View) -> None:
    scene = scene_of([pendulum("swing", 9)], 30, "z")
    actor = scene.actors[0]
    for frame in (0, 8):
        picture = drawn(actor, frame, scene.cell, view)
        seen = project(actor.points[frame], actor.targets[frame], view)
        for tip, colour in ((1, FIRST), (2, SECOND)):
            for share in (0.6, 0.9):  # of the rod from the joint to the tip
                x, y = seen[0, :2] + share * (seen[tip] - seen[0])[:2]
                column, row = SIDE / 2 * (1 + x / HALF), SIDE / 2 * (1 - y / HALF)
                assert tuple(picture[int(row), int(column)]) == ImageColor.getrgb(colour)


def test_a_gif_has_all_frames_and_their_time(tmp_path: Path) -> None:
    write_stick_film(tmp_path / "swing.gif", [pendulum("swing <b>", 40), pendulum("short", 7)], 60, "z")
    with Image.open(tmp_path / "swing.gif") as film:
        assert film.size == (2 * SIDE, SIDE + HEAD)
        assert film.n_frames == 20
        milliseconds = 0
        for frame in range(20):
            film.seek(frame)
            milliseconds += film.info["duration"]
        assert milliseconds == pytest.approx(1000 * 20 / 30, abs=10)
        assert film.info["loop"] == 0


def test_an_mp4_has_all_frames_and_their_rate(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    write_stick_film(tmp_path / "swing.mp4", [pendulum("swing", 50)], 25, "z")
    with av.open(tmp_path / "swing.mp4") as film:
        assert film.streams.video[0].average_rate == 25
        pictures = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(pictures) == 50
    scene = scene_of([pendulum("swing", 50)], 25, "z")
    expected = drawn(scene.actors[0], 49, scene.cell, View())
    assert np.abs(pictures[49][HEAD:].astype(int) - expected).mean() < 2


def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(NarrowsError, match=r"package av .*pip install 'narrows\[motion\]'"):
        write_stick_film(tmp_path / "swing.mp4", [pendulum("swing", 2)], 25, "z")
    assert not list(tmp_path.iterdir())
