"""The motion that a simulated robot is to follow: its state at every step of the simulation."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.ndimage import uniform_filter1d
from scipy.spatial.transform import Rotation, Slerp

from narrows.modalities.motion.body import Body, load_mujoco, lowest_point, states_of

__all__ = ["Reference", "reference_of"]

STANDING = 5.0
"""Percentile of the height of the lowest point, over the frames, that is put on the ground."""
SMOOTHED = 0.03
"""Seconds over which accelerations are averaged."""


class Reference(NamedTuple):
    """States in MuJoCo's order, [T, ...] by step: root position, quaternion (w, x, y, z), angles."""

    positions: np.ndarray
    speeds: np.ndarray
    accelerations: np.ndarray


def reference_of(
    body: Body, positions: np.ndarray, quaternions: np.ndarray, angles: np.ndarray, rate: float
) -> Reference:
    """Return a motion at the steps of the simulation, moved up or down so that it stands on the ground.

    Args:
        body: the robot.
        positions: of its base, in metres, z up, [T, 3], at least two frames.
        quaternions: rotation of the base, (x, y, z, w), [T, 4].
        angles: of its joints, in radians, [T, J].
        rate: frames per second.
    """
    mujoco, model = load_mujoco(), body.model
    states = states_of(positions, quaternions, angles)
    data, lowest = mujoco.MjData(model), []
    for state in states:
        data.qpos[:] = state
        mujoco.mj_kinematics(model, data)
        lowest.append(lowest_point(body, data))
    # Nothing starts below the ground, which would throw it off.
    states[:, 2] -= min(np.percentile(lowest, STANDING), lowest[0])
    step, given = model.opt.timestep, np.arange(len(states)) / rate
    times = np.arange(0, given[-1] + step / 2, step).clip(max=given[-1])
    found = CubicSpline(given, states)(times)
    found[:, 3:7] = Slerp(given, Rotation.from_quat(quaternions))(times).as_quat()[:, [3, 0, 1, 2]]
    speeds = np.zeros((len(found), model.nv))
    for before, after, speed in zip(found, found[1:], speeds, strict=False):
        mujoco.mj_differentiatePos(model, speed, step, before, after)
    speeds[-1] = speeds[-2]
    accelerations = uniform_filter1d(np.gradient(speeds, step, axis=0), round(SMOOTHED / step), axis=0, mode="nearest")
    return Reference(found, speeds, accelerations)
