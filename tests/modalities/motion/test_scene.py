"""The stage on which figures stand."""

import numpy as np
import pytest

from narrows.modalities.motion.figure import StickFigure
from narrows.modalities.motion.scene import scene_of


def pole(frames: int, height: float = 2.0) -> StickFigure:
    """A vertical pole, y up, that moves along z."""
    positions = np.zeros((frames, 2, 3))
    positions[..., 2] = np.linspace(0, 1, frames)[:, None]
    positions[:, 0, 1], positions[:, 1, 1] = 5, 5 + height
    return StickFigure("pole", positions, [(0, 1)])


def test_the_first_figure_sets_the_floor_and_the_scale() -> None:
    scene = scene_of([pole(30), pole(30, height=4.0)], 30, "y")
    one, two = scene.actors
    assert one.points[0, 0, 2] == two.points[0, 0, 2] == 0
    assert two.points[0, 1, 2] == pytest.approx(2 * one.points[0, 1, 2])
    np.testing.assert_allclose(one.targets[:, 2], one.points[:, 1, 2] / 2)
    # Positions along z, y up, are along the first horizontal axis: the camera is in front at yaw 0.
    assert np.all(np.diff(one.points[:, 0, 0]) > 0)
    assert not one.points[..., 1].any()


@pytest.mark.parametrize(("rate", "shown"), [(120.00005, 30), (100, 25), (60, 30), (30, 30), (24, 24), (31, 15.5)])
def test_at_most_30_frames_a_second_are_shown(rate: float, shown: float) -> None:
    scene = scene_of([pole(240)], rate, "y")
    assert scene.rate == pytest.approx(shown, rel=1e-5)
    assert scene.frames == 240 / round(rate / shown)


@pytest.mark.parametrize(("height", "cell"), [(2.0, 0.5), (170.0, 50.0), (1.3, 0.5), (0.6, 0.2), (30.0, 10.0)])
def test_squares_of_the_floor_are_round_numbers_of_the_figure_s_unit(height: float, cell: float) -> None:
    scene = scene_of([pole(1, height)], 30, "y")
    unit = height / scene.actors[0].points[0, 1, 2]
    assert scene.cell * unit == pytest.approx(cell)


def test_the_camera_follows_without_swaying() -> None:
    """A smoothed line is the same line away from its ends; a sway of 2 Hz all but vanishes."""
    times = np.arange(300) / 30
    positions = np.zeros((300, 2, 3))
    positions[:, :, 0] = times[:, None]
    positions[:, :, 1] = 0.1 * np.sin(4 * np.pi * times)[:, None]
    positions[:, 1, 2] = 1.7
    (actor,) = scene_of([StickFigure("walk", positions, [(0, 1)])], 30, "z").actors
    root, inner = actor.points[:, 0], slice(90, -90)
    np.testing.assert_allclose(actor.targets[inner, 0], root[inner, 0], atol=1e-3)
    assert np.abs(actor.targets[inner, 1]).max() < 0.01 * np.abs(root[inner, 1]).max()


def test_a_figure_of_one_point_has_a_size() -> None:
    scene = scene_of([StickFigure("point", np.full((1, 1, 3), 4.0), [])], 30, "y")
    assert np.isfinite(scene.actors[0].points).all()
    assert scene.cell > 0
