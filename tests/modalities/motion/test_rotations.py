from itertools import permutations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from narrows.modalities.motion.rotations import (
    euler_to_matrix,
    matrix_to_euler,
    matrix_to_quaternion,
    matrix_to_sixd,
    quaternion_to_matrix,
    rotation_angle,
    sixd_to_matrix,
)

ORDERS = ["".join(order) for order in permutations("XYZ")]


def drawn(*shape: int) -> np.ndarray:
    """Rotation matrices drawn at random."""
    return Rotation.random(int(np.prod(shape)), rng=np.random.default_rng(0)).as_matrix().reshape(*shape, 3, 3)


def walk(frames: int) -> np.ndarray:
    """Angles that turn far beyond 360 degrees in steps of less than 20, [T, 2, 3]."""
    steps = np.random.default_rng(1).uniform(-1, 1, (frames, 2, 3)) * 4 + [15, 9, 12]
    return steps.cumsum(0) - steps[0]


def test_order_is_intrinsic() -> None:
    """Ninety degrees about z, then about the new x: y goes to -x by the outer and to z by the inner rotation."""
    matrix = euler_to_matrix(np.array([90.0, 90.0, 0.0]), "ZXY")
    np.testing.assert_allclose(matrix, [[0, 0, 1], [1, 0, 0], [0, 1, 0]], atol=1e-15)


@pytest.mark.parametrize("order", [*ORDERS, "ZX", "YZ", "XZ", "Z"])
def test_euler_to_matrix_agrees_with_scipy(order: str) -> None:
    angles = np.random.default_rng(0).uniform(-400, 400, (5, 7, len(order)))
    expected = Rotation.from_euler(order, angles.reshape(-1, len(order)), degrees=True).as_matrix()
    np.testing.assert_allclose(euler_to_matrix(angles, order).reshape(-1, 3, 3), expected, atol=1e-12)


@pytest.mark.parametrize("order", ORDERS)
def test_matrix_to_euler_agrees_with_scipy_and_back(order: str) -> None:
    matrices = drawn(1, 200)
    angles = matrix_to_euler(matrices, order)
    expected = Rotation.from_matrix(matrices[0]).as_euler(order, degrees=True)
    np.testing.assert_allclose(angles[0], expected, atol=1e-9)
    assert rotation_angle(euler_to_matrix(angles, order), matrices).max() < 1e-9


@pytest.mark.parametrize("order", ORDERS)
def test_angles_have_no_jumps_although_the_middle_one_passes_90_degrees(order: str) -> None:
    angles = walk(300)
    assert angles[-1].min() > 1000
    np.testing.assert_allclose(matrix_to_euler(euler_to_matrix(angles, order), order), angles, atol=1e-6)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("middle", [90.0, -90.0, 90 - 1e-7, 90 - 1e-4])
def test_in_and_near_gimbal_lock_rotations_are_exact_and_the_last_angle_keeps_its_value(
    order: str, middle: float
) -> None:
    angles = np.array([[30, 60, 25], [35, middle, 20], [50, middle, 10], [52, 70, 12]])
    matrices = euler_to_matrix(angles, order)
    found = matrix_to_euler(matrices, order)
    assert rotation_angle(euler_to_matrix(found, order), matrices).max() < 1e-4
    if abs(90 - abs(middle)) < 1e-6:
        np.testing.assert_allclose(found[1:3, 2], 25, atol=1e-9)
    assert np.isfinite(found).all()


def test_locked_from_the_first_frame() -> None:
    matrices = euler_to_matrix(np.array([[10, 90, 30], [0, 90, 50], [5, 60, 50]]), "ZXY")
    found = matrix_to_euler(matrices, "ZXY")
    np.testing.assert_allclose(found[:2], [[40, 90, 0], [50, 90, 0]], atol=1e-9)
    assert rotation_angle(euler_to_matrix(found, "ZXY"), matrices).max() < 1e-9


@pytest.mark.parametrize("order", ["X", "Y", "Z", "ZX", "XZ", "YX", ""])
def test_joints_of_fewer_than_three_angles(order: str) -> None:
    """The middle angle of two goes beyond 90 degrees, which three angles would flip."""
    angles = walk(60)[..., : len(order)]
    found = matrix_to_euler(euler_to_matrix(angles, order), order)
    np.testing.assert_allclose(found, angles, atol=1e-6)


def test_sixd_is_the_first_two_columns_and_any_scale_gives_the_rotation_back() -> None:
    matrices = drawn(5, 4)
    vectors = matrix_to_sixd(matrices)
    np.testing.assert_array_equal(vectors[2, 1], [*matrices[2, 1, :, 0], *matrices[2, 1, :, 1]])
    mixed = np.concatenate([3 * vectors[..., :3], 0.5 * vectors[..., 3:] - 2 * vectors[..., :3]], -1)
    np.testing.assert_allclose(sixd_to_matrix(mixed), matrices, atol=1e-12)


@pytest.mark.parametrize("vector", [[0] * 6, [0, 0, 0, 0, 0, 1], [0, 2, 0, 0, 1, 0], [1, 1, 1, -2, -2, -2]])
def test_sixd_without_directions_still_gives_a_rotation(vector: list[float]) -> None:
    matrix = sixd_to_matrix(np.array(vector))
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)


def test_quaternions_are_x_y_z_w_and_keep_their_sign_from_frame_to_frame() -> None:
    half = np.deg2rad(np.arange(0, 1000, 10.0)) / 2
    turning = np.stack([0 * half, 0 * half, np.sin(half), np.cos(half)], -1)
    matrices = quaternion_to_matrix(turning)
    np.testing.assert_allclose(matrices, euler_to_matrix(2 * np.rad2deg(half)[:, None], "Z"), atol=1e-12)
    np.testing.assert_allclose(matrix_to_quaternion(matrices), turning, atol=1e-12)
    np.testing.assert_allclose(quaternion_to_matrix(-3 * turning), matrices, atol=1e-12)


def test_quaternion_of_the_first_frame_has_no_negative_w() -> None:
    matrices = drawn(1, 200)
    expected = Rotation.from_matrix(matrices[0]).as_quat(canonical=True)
    np.testing.assert_allclose(matrix_to_quaternion(matrices)[0], expected, atol=1e-12)


def test_rotation_angle_in_degrees() -> None:
    angles = np.array([[0.0], [1e-6], [45.0], [180.0]])
    np.testing.assert_allclose(rotation_angle(np.eye(3), euler_to_matrix(angles, "Y")), angles[:, 0], atol=1e-10)
