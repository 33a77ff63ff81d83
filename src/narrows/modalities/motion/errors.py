"""How far a reconstructed motion is from its original: angles, positions, drift, sliding feet and smoothness."""

from __future__ import annotations

import numpy as np

from narrows.modalities.motion.feet import PER_METRE, foot_sliding
from narrows.modalities.motion.formats import ROOT_SPEEDS, Format, Moved
from narrows.modalities.motion.root import ROOT_FEATURES, Start, root_motion
from narrows.modalities.motion.rotations import AXES, rotation_angle

__all__ = ["angle_errors", "motion_errors", "smoothness"]


def motion_errors(x: np.ndarray, y: np.ndarray, form: Format, window: int) -> dict[str, float]:
    """Return figures of a reconstruction; those that need a root, joints or positions only for data that have them.

    Joints are compared with the root of the reconstruction put on the original's path, with its heading, because small
    errors of the root's speeds add up to any distance. The drift measures these.

    Args:
        x: features of the original, [T, C].
        y: features of the reconstruction.
        form: what they mean.
        window: frames after which the drift is measured.

    Returns:
        `joint_angle_error`, the mean over frames and joints of the angle between the rotations, in degrees;
        `joint_position_error`, the mean distance of the joints, in cm; `root_drift`, the horizontal distance at the end
        of windows that start at the same place, the mean over whole windows, in cm; `foot_sliding` and
        `original_foot_sliding`, see `narrows.modalities.motion.feet`, of data with a root and feet; `jerk`
        and `original_jerk`, see `smoothness`.
    """
    figures: dict[str, float] = {}
    aligned = y.copy()
    if form.has_root:
        aligned[:, ROOT_SPEEDS] = x[:, ROOT_SPEEDS]
        figures["root_drift"] = _drift(x, y, form, window)
    original, made = form.moved(x), form.moved(aligned)
    angles = angle_errors(original, made)
    if angles.shape[1]:
        figures["joint_angle_error"] = float(angles.mean())
    if original.positions is not None and made.positions is not None:
        distance = np.linalg.norm(original.positions - made.positions, axis=2)
        figures["joint_position_error"] = float(distance.mean())
        own = form.moved(y)
        assert own.positions is not None
        if form.has_root and original.feet is not None and own.feet is not None:
            before, after = foot_sliding(original.feet, own.feet, form.up, form.rate)
            figures |= {"foot_sliding": after, "original_foot_sliding": before}
        jerks = smoothness(own.positions, form.rate), smoothness(original.positions, form.rate)
        figures |= dict(zip(("jerk", "original_jerk"), jerks, strict=True))
    return figures


def smoothness(positions: np.ndarray, rate: float) -> float:
    """Return the mean jerk of joints, the third derivative of their positions [T, J, 3] in cm, in m/s^3.

    Args:
        positions: at least 4 frames.
        rate: frames per second.
    """
    third = np.diff(positions, n=3, axis=0) * rate**3
    return float(np.linalg.norm(third, axis=2).mean()) / PER_METRE


def angle_errors(first: Moved, second: Moved) -> np.ndarray:
    """Return the angles between two motions in degrees, [T, R + A]."""
    turns = np.abs(np.angle(np.exp(1j * (first.angles - second.angles))))
    return np.concatenate([rotation_angle(first.rotations, second.rotations), np.rad2deg(turns)], 1)


def _drift(x: np.ndarray, y: np.ndarray, form: Format, window: int) -> float:
    """Return the mean distance at the ends of windows; of data shorter than a window, that at its end."""
    length = min(window, len(x))
    ends = [_end(part[at : at + length], form) for part in (x, y) for at in range(0, len(x) - length + 1, length)]
    before, after = np.split(np.stack(ends), 2)
    return float(np.linalg.norm(before - after, axis=1).mean())


def _end(features: np.ndarray, form: Format) -> np.ndarray:
    """Return where a root that starts at the origin ends, on the horizontal plane, in cm."""
    positions, _ = root_motion(features[:, :ROOT_FEATURES], form.up, form.rate, Start())
    return np.delete(positions[-1], AXES.index(form.up.upper())) * form.unit_cm
