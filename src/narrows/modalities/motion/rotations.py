"""Rotations as Euler angles, matrices, 6-D vectors and quaternions.

Euler angles are intrinsic, as in BVH files: a rotation of order "ZXY" is R = Rz Rx Ry, applied to column vectors. The
6-D representation is from Zhou et al. 2019, "On the Continuity of Rotation Representations in Neural Networks".
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

__all__ = [
    "euler_to_matrix",
    "matrix_to_euler",
    "matrix_to_quaternion",
    "matrix_to_sixd",
    "quaternion_to_matrix",
    "rotation_angle",
    "sixd_to_matrix",
]

AXES = "XYZ"
LOCKED = 1e-6
"""Cosine of the middle angle below which the other two angles describe the same axis: gimbal lock."""
TINY = 1e-8
"""Vectors shorter than this have no direction."""


def euler_to_matrix(angles: np.ndarray, order: str) -> np.ndarray:
    """Return the rotation matrices of intrinsic Euler angles.

    Args:
        angles: degrees, [..., K].
        order: K of the letters X, Y and Z in the order of the angles, each at most once; K is 0 to 3.

    Returns:
        Matrices, float64 [..., 3, 3].
    """
    i, j, k, sign = _axes(order)
    radians = np.zeros((3, *angles.shape[:-1]))
    radians[: len(order)] = np.deg2rad(np.moveaxis(angles, -1, 0))
    (ca, cb, cc), (sa, sb, sc) = np.cos(radians), sign * np.sin(radians)
    found = np.empty((*angles.shape[:-1], 3, 3))
    found[..., i, i], found[..., i, j], found[..., i, k] = cb * cc, -cb * sc, sb
    found[..., j, i], found[..., j, j], found[..., j, k] = ca * sc + sa * sb * cc, ca * cc - sa * sb * sc, -sa * cb
    found[..., k, i], found[..., k, j], found[..., k, k] = sa * sc - ca * sb * cc, sa * cc + ca * sb * sc, ca * cb
    return found


def matrix_to_euler(matrices: np.ndarray, order: str) -> np.ndarray:
    """Return the Euler angles of rotations that follow each other in time, without jumps from frame to frame.

    Every rotation has two triples of angles, apart from multiples of 360 degrees. Each frame gets the one nearest to
    the frame before; the first frame gets the one whose middle angle is from -90 to 90 degrees. In gimbal lock only
    the sum or the difference of the outer angles is known, so the last angle keeps its value of the frame before.

    Args:
        matrices: rotation matrices, [T, ..., 3, 3].
        order: as in `euler_to_matrix`. With fewer than three letters, the angles are exact for rotations of that
            order; others lose a part.

    Returns:
        Degrees, float64 [T, ..., K].
    """
    i, j, k, sign = _axes(order)
    cosine = np.hypot(matrices[..., i, i], matrices[..., i, j])
    last = np.arctan2(-sign * matrices[..., i, j], matrices[..., i, i])
    last = _held(last, cosine < LOCKED)
    # With the last rotation undone, the first angle is accurate even close to gimbal lock.
    undone = matrices[..., j] * np.cos(last)[..., None] + sign * matrices[..., i] * np.sin(last)[..., None]
    first = np.arctan2(sign * undone[..., k], undone[..., j])
    middle = np.arctan2(sign * matrices[..., i, k], cosine)
    angles = np.rad2deg(np.stack([first, middle, last], -1))
    other = angles * [1, -1, 1] + 180
    if len(order) < 3:
        # Of the two triples, one leaves out the missing rotations.
        left_out = np.abs(np.stack([_wrapped(angles), _wrapped(other)]))[..., len(order) :].sum(-1)
        swapped = left_out[1] < left_out[0]
    else:
        # Swapping both frames changes no distance, so whether to swap depends on the frames before only by parity.
        kept, turned = (np.square(_wrapped(now[1:] - angles[:-1])).sum(-1) for now in (angles, other))
        swapped = np.concatenate([np.zeros_like(angles[:1, ..., 0], bool), turned < kept]).cumsum(0) % 2 == 1
    return np.unwrap(np.where(swapped[..., None], other, angles), axis=0, period=360)[..., : len(order)]


def _axes(order: str) -> tuple[int, int, int, float]:
    """Return the indices of three axes that begin with those of the order, and -1 if they are left-handed, else 1."""
    i, j, k = (AXES.index(axis) for axis in order + "".join(axis for axis in AXES if axis not in order))
    return i, j, k, 1.0 if (j - i) % 3 == 1 else -1.0


def _held(angles: np.ndarray, locked: np.ndarray) -> np.ndarray:
    """Return angles [T, ...] that in locked frames keep their last value before, or 0 if there is none."""
    frames = np.arange(len(angles)).reshape(-1, *[1] * (angles.ndim - 1))
    source = np.maximum.accumulate(np.where(locked, -1, frames), axis=0)
    return np.where(source < 0, 0.0, np.take_along_axis(angles, np.maximum(source, 0), axis=0))


def _wrapped(degrees: np.ndarray) -> np.ndarray:
    return (degrees + 180) % 360 - 180


def matrix_to_sixd(matrices: np.ndarray) -> np.ndarray:
    """Return the first two columns of rotation matrices, [..., 3, 3] to [..., 6]: the first column comes first."""
    return np.concatenate([matrices[..., 0], matrices[..., 1]], -1)


def sixd_to_matrix(vectors: np.ndarray) -> np.ndarray:
    """Return the rotation matrices of 6-D vectors by Gram-Schmidt orthogonalisation, [..., 6] to float64 [..., 3, 3].

    A model's vectors are seldom exact: any vector gives a rotation, also zeros or two parallel halves.
    """
    first, second = (np.asarray(part, np.float64) for part in (vectors[..., :3], vectors[..., 3:]))
    x = _unit(first, np.eye(3)[0])
    aside = np.eye(3)[np.abs(x).argmin(-1)]
    y = _unit(_rejected(second, x), _unit(_rejected(aside, x), aside))
    return np.stack([x, y, np.cross(x, y)], -1)


def _rejected(vectors: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the parts of vectors that are perpendicular to unit vectors x."""
    return vectors - (vectors * x).sum(-1, keepdims=True) * x


def _unit(vectors: np.ndarray, instead: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.where(length > TINY, vectors / np.maximum(length, TINY), instead)


def quaternion_to_matrix(quaternions: np.ndarray) -> np.ndarray:
    """Return the rotation matrices of quaternions (x, y, z, w), [..., 4] to float64 [..., 3, 3].

    Their length does not matter, but it must not be zero.
    """
    return Rotation.from_quat(quaternions.reshape(-1, 4)).as_matrix().reshape(*quaternions.shape[:-1], 3, 3)


def matrix_to_quaternion(matrices: np.ndarray) -> np.ndarray:
    """Return unit quaternions (x, y, z, w) of rotations that follow each other in time, [T, ..., 3, 3] to [T, ..., 4].

    q and -q are the same rotation: each frame gets the one nearest to the frame before, the first one that with w >= 0.
    """
    found = Rotation.from_matrix(matrices.reshape(-1, 3, 3)).as_quat().reshape(*matrices.shape[:-2], 4)
    turned = (found[1:] * found[:-1]).sum(-1) < 0
    flipped = np.concatenate([found[:1, ..., 3] < 0, turned]).cumsum(0) % 2 == 1
    return np.where(flipped[..., None], -found, found)


def rotation_angle(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the angle between rotations in degrees, 0 to 180: two arrays of matrices [..., 3, 3] to [...]."""
    # |A - B| = 2 sqrt(2) sin(angle / 2) is accurate for small angles, unlike the trace.
    distance = np.linalg.norm(np.asarray(first, np.float64) - second, axis=(-2, -1))
    return 2 * np.rad2deg(np.arcsin(np.minimum(distance / np.sqrt(8), 1)))
