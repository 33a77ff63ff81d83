from itertools import product

import numpy as np
import pytest

from narrows.modalities.motion.root import Start, Up, root_features, root_motion, root_path, start_of
from narrows.modalities.motion.rotations import euler_to_matrix, rotation_angle, sixd_to_matrix

UPS: list[Up] = ["x", "y", "z"]


def wandering(frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions and rotations that go anywhere, also upside down."""
    generator = np.random.default_rng(0)
    positions = np.array([5, -3, 1]) + generator.normal(0, 0.02, (frames, 3)).cumsum(0)
    return positions, euler_to_matrix(generator.normal(0, 6, (frames, 3)).cumsum(0), "ZXY")


@pytest.mark.parametrize(("up", "axes"), [("y", "zx"), ("z", "xy"), ("x", "yz")])
def test_walking_in_a_circle_has_constant_features(up: Up, axes: str) -> None:
    """A turn by 90 degrees per second, with 2 units per second straight ahead, leaning forward by 10 degrees."""
    rate, frames = 30.0, 61
    heading = np.pi / 2 / rate * np.arange(frames) + 0.3
    along = 2 / rate * np.exp(1j * heading[:-1])
    place = np.append(0, along.cumsum()) + (4 - 7j)
    positions = np.empty((frames, 3))
    first, second, vertical = ("xyz".index(axis) for axis in (*axes, up))
    positions[:, first], positions[:, second], positions[:, vertical] = place.real, place.imag, 0.9
    lean = np.full((frames, 1), 10.0)
    rotations = euler_to_matrix(np.concatenate([np.rad2deg(heading)[:, None], lean], 1), f"{up}{axes[1]}".upper())
    found = root_features(positions, rotations, up, rate)
    np.testing.assert_allclose(found, found[:1].repeat(frames, 0), atol=1e-10)
    np.testing.assert_allclose(found[0, :4], [2, 0, 0.9, np.pi / 2], atol=1e-10)
    swing = euler_to_matrix(np.array([10.0]), axes[1].upper())
    np.testing.assert_allclose(found[0, 4:], [*swing[:, 0], *swing[:, 1]], atol=1e-10)
    start = start_of(positions, rotations, up)
    np.testing.assert_allclose([*start.position, start.heading], [4, -7, 0.3], atol=1e-10)


@pytest.mark.parametrize(("up", "other"), list(product(UPS, UPS)))
def test_features_do_not_depend_on_place_and_heading(up: Up, other: Up) -> None:
    positions, rotations = wandering(50)
    turn = euler_to_matrix(np.array([70.0]), other.upper())
    there = positions @ turn.T
    there[:, "xyz".index(other) - 1] += 20
    found = root_features(there, turn @ rotations, up, 30.0)
    assert np.allclose(found, root_features(positions, rotations, up, 30.0), atol=1e-9) == (up == other)


@pytest.mark.parametrize("up", UPS)
def test_inversion_is_exact_over_a_whole_file_in_single_precision(up: Up) -> None:
    """Positions in metres: within 0.1 mm and 0.01 degrees after 8,000 frames."""
    positions, rotations = wandering(8000)
    features = root_features(positions, rotations, up, 30.0).astype(np.float32)
    found, turned = root_motion(features, up, 30.0, start_of(positions, rotations, up))
    assert np.abs(found - positions).max() < 1e-5
    assert rotation_angle(turned, rotations).max() < 1e-3


def test_windows_start_where_they_are_told() -> None:
    positions, rotations = wandering(100)
    features = root_features(positions, rotations, "z", 30.0)
    start = start_of(positions[40:], rotations[40:], "z")
    found, turned = root_motion(features[40:60], "z", 30.0, start)
    np.testing.assert_allclose(found, positions[40:60], atol=1e-12)
    np.testing.assert_allclose(turned, rotations[40:60], atol=1e-12)
    moved, _ = root_motion(features[40:60], "z", 30.0, Start((1, 2), 0.5))
    np.testing.assert_allclose(moved[0], [1, 2, positions[40, 2]], atol=1e-12)


@pytest.mark.parametrize("frames", [1, 2])
def test_short_motions(frames: int) -> None:
    positions, rotations = wandering(frames)
    features = root_features(positions, rotations, "y", 60.0)
    assert features.shape == (frames, 10)
    found, turned = root_motion(features, "y", 60.0, start_of(positions, rotations, "y"))
    np.testing.assert_allclose(found, positions, atol=1e-12)
    np.testing.assert_allclose(turned, rotations, atol=1e-12)


def test_upside_down_without_a_heading_is_exact() -> None:
    rotations = euler_to_matrix(np.array([[180.0], [180], [170]]), "X")
    features = root_features(np.zeros((3, 3)), rotations, "y", 30.0)
    assert np.isfinite(features).all()
    _, turned = root_motion(features, "y", 30.0, start_of(np.zeros((3, 3)), rotations, "y"))
    np.testing.assert_allclose(turned, rotations, atol=1e-12)


def test_paths_of_several_motions_at_once() -> None:
    features = np.random.default_rng(3).normal(size=(4, 30, 10))
    start = Start((3.0, -2.0), 1.0)
    places, headings = root_path(features, 20.0, start)
    for one, place, heading in zip(features, places, headings, strict=True):
        positions, rotations = root_motion(one, "z", 20.0, start)
        np.testing.assert_allclose(positions[:, 0] + 1j * positions[:, 1], place)
        swing = sixd_to_matrix(one[:, 4:])
        np.testing.assert_allclose(rotations, euler_to_matrix(np.rad2deg(heading)[:, None], "Z") @ swing, atol=1e-12)
