"""The projection against closed forms."""

import numpy as np
import pytest

from narrows.modalities.motion.projection import DISTANCE, NEAREST, RADIUS, View, floor_lines, on_floor, project

ORIGIN = np.zeros(3)


@pytest.mark.parametrize(
    ("view", "right", "up", "towards"),
    [
        (View(0, 0), [0, 1, 0], [0, 0, 1], [1, 0, 0]),
        (View(90, 0), [-1, 0, 0], [0, 0, 1], [0, 1, 0]),
        (View(-90, 0), [1, 0, 0], [0, 0, 1], [0, -1, 0]),
        (View(0, 90), [0, 1, 0], [-1, 0, 0], [0, 0, 1]),
    ],
)
def test_the_axes_of_the_picture(view: View, right: list[float], up: list[float], towards: list[float]) -> None:
    seen = project(np.array([right, up, towards], float), ORIGIN, view)
    np.testing.assert_allclose(seen, np.eye(3), atol=1e-12)


def test_the_size_falls_with_the_distance_and_the_target_is_in_the_middle() -> None:
    rod = np.array([[0.0, 0.5, 0.0], [0.0, -0.5, 0.0]])
    view = View(0, 0)
    for depth in (-DISTANCE, -1.0, 0.0, 1.0):
        first, second = project(rod + np.array([depth, 0, 0]), ORIGIN, view)
        assert first[0] - second[0] == pytest.approx(DISTANCE / (DISTANCE - depth))
    target = np.array([3.0, -2.0, 1.0])
    np.testing.assert_allclose(project(target, target, View(37, 21)), 0, atol=1e-12)
    np.testing.assert_allclose(
        project(rod + target, target, View(37, 21)), project(rod, ORIGIN, View(37, 21)), atol=1e-12
    )


def test_points_behind_the_camera_stay_finite() -> None:
    seen = project(np.array([2 * DISTANCE, 1.0, 0.0]), ORIGIN, View(0, 0))
    assert seen[0] == pytest.approx(DISTANCE / NEAREST)


def test_the_floor_is_a_grid_of_chords_of_a_circle() -> None:
    target = np.array([0.3, -7.2, 0.9])
    lines = floor_lines(target, 0.5)
    np.testing.assert_allclose(np.hypot(*(lines[..., :2] - target[:2]).reshape(-1, 2).T), RADIUS)
    assert not lines[..., 2].any()
    for axis in (0, 1):
        across = lines[(lines[:, 0, axis] == lines[:, 1, axis]), 0, axis]
        np.testing.assert_allclose(across / 0.5, np.round(across / 0.5), atol=1e-9)
        assert len(across) == 2 * RADIUS / 0.5
    assert on_floor(np.array([[0.3, -7.2, 5.0], [2.4, -7.2, 0.0]]), target).tolist() == [True, False]
