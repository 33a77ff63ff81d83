"""A robot that follows a motion in simulation by its motors, until it falls.

The motors are springs with dampers (`Gains`). To their torques those can be added that the motion needs by inverse
dynamics, M a + c - J' f: with forces f where the feet touch the ground, inside the cone of friction, that bear the
root, which has no motor (non-negative least squares).
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.optimize import nnls
from scipy.spatial.transform import Rotation

from narrows.errors import NarrowsError
from narrows.modalities.motion.body import Body, load_mujoco
from narrows.modalities.motion.reference import Reference

__all__ = ["Control", "Tracked", "planned_torques", "track"]

LOW, TILTED = 0.3, 45.0
"""A robot fell if its root is this many metres below the motion's, or its vertical axis this many degrees away."""
FRICTION = 0.8
EVERY = 2
"""Steps of the simulation from one plan of the torques to the next."""
MEASURED = 5
"""Steps of the simulation from one measurement of the errors to the next."""
LEAST = 1e-3
"""Weight of small contact forces among those that bear the root equally well."""
TURNS = 4.0
"""Weight of moments in Nm beside forces in N: a robot is some tens of centimetres wide."""
PER_RADIAN = 0.1
"""Torque of the assisting spring in Nm per radian, for each N per metre."""


@dataclass(frozen=True)
class Control:
    """What is added to the motors' springs.

    Args:
        torques: `pd` adds nothing; `feedforward` the torques that the motion needs, in its own states; `balance` those
            that it needs from the present state on, with a root that is drawn back to the motion's.
        balance: frequency of that pull in radians per second; it is critically damped.
        assist: stiffness of a spring that holds the root from outside, in N per metre, critically damped. A robot has
            none: above 0 the figures are not those of a robot.
    """

    torques: Literal["pd", "feedforward", "balance"] = "balance"
    balance: float = 5.0
    assist: float = 0.0

    def __post_init__(self) -> None:
        for name in ("balance", "assist"):
            if not 0 <= getattr(self, name) < np.inf:
                raise NarrowsError(f"{name} is {getattr(self, name)}: it must be at least 0")


class Tracked(NamedTuple):
    """How a motion was followed."""

    seconds: float
    """Until the fall, or the whole motion."""
    fell: bool
    angle_error: float
    """Mean error of the joints' angles until then, in degrees."""
    position_error: float
    """Mean distance of the links from where they are in the motion until then, both relative to the root, in cm."""
    states: np.ndarray
    """The states of the simulation at every step until then, in MuJoCo's order, [T, ...]."""


def track(body: Body, reference: Reference, control: Control | None = None) -> Tracked:
    """Return how a robot follows a motion that it starts in, with its speeds."""
    mujoco, model, control = load_mujoco(), body.model, control or Control()
    data, wanted = mujoco.MjData(model), mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = reference.positions[0], reference.speeds[0]
    mujoco.mj_forward(model, data)
    states, angles, distances = [data.qpos.copy()], [], []
    torques = np.zeros(model.nu)
    fell = False
    for number in range(1, len(reference.positions)):
        goal = Reference(*(part[number] for part in reference))
        if control.torques != "pd" and (number - 1) % EVERY == 0:
            torques = _torques(mujoco, body, data, wanted, goal, control)
        # The motor itself subtracts damping times speed, implicitly, which is stable where an explicit term is not.
        pull = (body.damping * goal.speeds[6:] + torques) / body.stiffness
        data.ctrl[:] = goal.positions[7:] + pull
        if control.assist:
            data.xfrc_applied[1] = _assist(body, data, goal, control.assist)
        mujoco.mj_step(model, data)
        if not np.isfinite(data.qpos).all() or _has_fallen(data.qpos, goal.positions):
            fell = True
            break
        states.append(data.qpos.copy())
        if number % MEASURED == 0:
            angles.append(np.abs(data.qpos[7:] - goal.positions[7:]).mean())
            # `data` has the bodies' positions of before the step.
            bodies = [_bodies(mujoco, body, wanted, state) for state in (data.qpos, goal.positions)]
            distances.append(_distance(*bodies))
    return Tracked(
        (len(states) - 1) * model.opt.timestep,
        fell,
        float(np.rad2deg(np.mean(angles))) if angles else np.nan,
        100 * float(np.mean(distances)) if distances else np.nan,
        np.array(states),
    )


def planned_torques(body: Body, data: Any, accelerations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the torques for accelerations from the state of `data`, after `mj_forward`.

    Returns:
        the torques of the joints in Nm, [J]; and what remains of the root's forces in N and moments in Nm that no
        contact can bear, [6].
    """
    mujoco, model = load_mujoco(), body.model
    needed = np.zeros(model.nv)
    mujoco.mj_mulM(model, data, needed, accelerations)
    needed += data.qfrc_bias
    cone = np.array([[FRICTION, 0, 1], [-FRICTION, 0, 1], [0, FRICTION, 1], [0, -FRICTION, 1.0]])
    columns, jacobian = [np.zeros((model.nv, 0))], np.zeros((3, model.nv))
    for contact in data.contact:
        mujoco.mj_jac(model, data, jacobian, None, contact.pos, model.geom_bodyid[contact.geom[1]])
        columns.append(jacobian.T @ cone.T)
    by_force = np.concatenate(columns, 1)
    count = by_force.shape[1]
    if count:
        weights = np.array([1, 1, 1, TURNS, TURNS, TURNS])
        small = LEAST * np.eye(count)
        forces, _ = nnls(
            np.concatenate([by_force[:6] * weights[:, None], small]), np.append(needed[:6] * weights, np.zeros(count))
        )
        needed -= by_force @ forces
    return needed[6:], needed[:6]


def _torques(mujoco: ModuleType, body: Body, data: Any, wanted: Any, goal: Reference, control: Control) -> np.ndarray:
    """Return the torques that follow the motion, or bring the root back to it."""
    accelerations = goal.accelerations.copy()
    if control.torques == "feedforward":
        wanted.qpos[:], wanted.qvel[:] = goal.positions, goal.speeds
        mujoco.mj_forward(body.model, wanted)
        return planned_torques(body, wanted, accelerations)[0]
    away = np.zeros(body.model.nv)
    mujoco.mj_differentiatePos(body.model, away, 1.0, data.qpos, goal.positions)
    slow = goal.speeds - data.qvel
    accelerations[:6] += control.balance**2 * away[:6] + 2 * control.balance * slow[:6]
    mujoco.mj_forward(body.model, data)
    return planned_torques(body, data, accelerations)[0]


def _assist(body: Body, data: Any, goal: Reference, stiffness: float) -> np.ndarray:
    """Return the force and the moment of a spring on the root, in the world, [6]."""
    mass = body.model.body_mass.sum()
    now, then = (Rotation.from_quat(state[[4, 5, 6, 3]]) for state in (data.qpos, goal.positions))
    speeds = goal.speeds[:3] - data.qvel[:3], then.apply(goal.speeds[3:6]) - now.apply(data.qvel[3:6])
    force = stiffness * (goal.positions[:3] - data.qpos[:3]) + 2 * np.sqrt(stiffness * mass) * speeds[0]
    turn = (then * now.inv()).as_rotvec()
    moment = PER_RADIAN * (stiffness * turn + 2 * np.sqrt(stiffness * mass) * speeds[1])
    return np.concatenate([force, moment])


def _has_fallen(state: np.ndarray, goal: np.ndarray) -> bool:
    return state[2] < goal[2] - LOW or _up(state[3:7]) @ _up(goal[3:7]) < np.cos(np.deg2rad(TILTED))


def _up(quaternion: np.ndarray) -> np.ndarray:
    """Return the vertical axis of a root turned by a quaternion (w, x, y, z), [3]."""
    w, x, y, z = quaternion
    return np.array([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)])


def _bodies(mujoco: ModuleType, body: Body, data: Any, state: np.ndarray) -> np.ndarray:
    """Return the positions of the bodies in a state in metres, [B, 3]; `data` is overwritten."""
    data.qpos[:] = state
    mujoco.mj_kinematics(body.model, data)
    return data.xpos.copy()


def _distance(found: np.ndarray, wanted: np.ndarray) -> float:
    """Return the mean distance of bodies [B, 3] in metres relative to the root, the second after the world."""
    return float(np.linalg.norm((found[2:] - found[1]) - (wanted[2:] - wanted[1]), axis=1).mean())
