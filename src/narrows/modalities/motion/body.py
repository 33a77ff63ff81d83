"""The body of a robot in simulation: kinematics and inertias of its URDF file, simple shapes, and motors, in MuJoCo.

Meshes are left out. A link keeps the spheres, cylinders and boxes that it has for collisions, such as those of a sole;
other links get capsules to their children. Links touch the ground, not each other.
"""

from __future__ import annotations

import os
import sys
import xml.etree.ElementTree as ElementTree
from ctypes.util import find_library
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np

from narrows.data.errors import DataError
from narrows.errors import NarrowsError
from narrows.modalities.motion.urdf import Robot, read_urdf

__all__ = ["Body", "Gains", "build_body", "load_mujoco", "lowest_point", "states_of"]

RADIUS, THIN, LIGHT = 0.03, 0.005, 0.05
"""Radius of capsules and half the thickness of soles in metres; mass in kg of the smallest link drawn as a ball."""
NEAR = 0.02
"""Height in metres below which a shape counts as in contact, so that its forces can be planned."""
ROBOT = (0.06, 0.44, 0.53, 1.0)
GROUND, SQUARES, SKY = (0.85, 0.86, 0.86), (0.78, 0.79, 0.79), (0.99, 0.99, 0.98)


@dataclass(frozen=True)
class Gains:
    """Motors that are springs with dampers, torque = stiffness (angle* - angle) + damping (speed* - speed).

    A motor has its largest torque at an error of `reach`. Its damping is 2 ratio sqrt(stiffness I), with the inertia I
    of all that is beyond the joint in the rest pose, and of the motor.

    Args:
        reach: in radians.
        ratio: damping ratio; 1 is critical for the inertia beyond the joint, of which a leg that stands moves more.
        armature: inertia of a motor's rotor as seen from the joint, in kg m^2.
        timestep: step of the simulation in seconds.
    """

    reach: float = 0.3
    ratio: float = 3.0
    armature: float = 0.02
    timestep: float = 0.002


@dataclass(frozen=True, eq=False)
class Body:
    """A simulated robot.

    Args:
        model: MuJoCo's model: a free root, then the joints of `robot` in their order.
        robot: its kinematics, with the joints in the order of MuJoCo's tree, which may not be that of the file.
        stiffness: of each motor, in Nm per radian, float64 [J].
        damping: of each motor, in Nm per radian and second, float64 [J].
        effort: the largest torque of each motor, in Nm, float64 [J].
    """

    model: Any
    robot: Robot
    stiffness: np.ndarray
    damping: np.ndarray
    effort: np.ndarray


def load_mujoco() -> ModuleType:
    """Return the package mujoco.

    Raises:
        NarrowsError: if it is not installed.
    """
    if "mujoco" not in sys.modules:
        _draw_without_screen()
    try:
        import mujoco
    except ImportError as error:
        raise NarrowsError(f"simulation needs the package mujoco ({error}): pip install 'narrows[robots]'") from error
    return mujoco


def _draw_without_screen() -> None:
    """Let MuJoCo draw by EGL where there is no screen; it reads this when it is imported."""
    if sys.platform == "linux" and not os.environ.get("DISPLAY") and find_library("EGL"):
        os.environ.setdefault("MUJOCO_GL", "egl")


def states_of(positions: np.ndarray, quaternions: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Return states in MuJoCo's order, [T, ...]: root position, its quaternion as (w, x, y, z), angles.

    Args:
        positions: of the root in metres, [T, 3].
        quaternions: rotation of the root, (x, y, z, w), [T, 4].
        angles: of the joints in radians, [T, J].
    """
    return np.concatenate([positions, quaternions[:, [3, 0, 1, 2]], angles], 1)


def build_body(urdf: str, gains: Gains | None = None) -> Body:
    """Return the body of a robot, standing on a plane at height 0.

    Args:
        urdf: the text of its URDF file, with the masses of the links, and for each joint a largest torque (effort).
        gains: the motors; None for the defaults.

    Raises:
        DataError: naming the joint, if one has no torque; or if MuJoCo cannot build it.
        NarrowsError: if mujoco is not installed.
    """
    mujoco, gains = load_mujoco(), gains or Gains()
    robot, effort = read_urdf(urdf.encode()), _effort(urdf)
    try:
        spec = mujoco.MjSpec.from_string(_without_meshes(urdf))
        spec.compiler.fusestatic = spec.compiler.discardvisual = False
        bare = spec.compile()
        order = [bare.joint(index).name for index in range(bare.njnt)]
        robot = replace(robot, joints=tuple(sorted(robot.joints, key=lambda joint: order.index(joint.name))))
        efforts = np.array([effort[joint.name] for joint in robot.joints])
        _complete(mujoco, spec, robot, gains, efforts)
        model = spec.compile()
    except ValueError as error:
        raise DataError(f"the robot's URDF file cannot be simulated: {error}") from error
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    inertia = _inertia(mujoco, model, data)
    stiffness = efforts / gains.reach
    damping = 2 * gains.ratio * np.sqrt(stiffness * inertia)
    model.actuator_gainprm[:, 0] = stiffness
    model.actuator_biasprm[:, 1], model.actuator_biasprm[:, 2] = -stiffness, -damping
    return Body(model, robot, stiffness, damping, efforts)


def _effort(urdf: str) -> dict[str, float]:
    """Return the largest torque of each joint that turns."""
    found = {}
    for joint in ElementTree.fromstring(urdf).findall("joint"):
        if joint.get("type") == "fixed":
            continue
        limit = joint.find("limit")
        try:
            torque = float("" if limit is None else limit.get("effort", ""))
        except ValueError:
            torque = 0.0
        if not 0 < torque < np.inf:
            raise DataError(f"the joint {joint.get('name')!r} has no limit of its effort in Nm")
        found[joint.get("name", "")] = torque
    return found


def _without_meshes(urdf: str) -> str:
    root = ElementTree.fromstring(urdf)
    for link in root.findall("link"):
        for part in [*link.findall("visual"), *link.findall("collision")]:
            if part.tag == "visual" or part.find("geometry/mesh") is not None:
                link.remove(part)
    for own in root.findall("mujoco"):
        root.remove(own)
    return ElementTree.tostring(root, encoding="unicode")


def _complete(mujoco: ModuleType, spec: Any, robot: Robot, gains: Gains, effort: np.ndarray) -> None:
    """Add a ground, a free root, shapes and motors."""
    spec.option.timestep = gains.timestep
    spec.visual.quality.offsamples = 0
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    _add_ground(mujoco, spec)
    bodies = {body.name: body for body in spec.bodies}
    bodies[robot.links[0]].add_freejoint()
    for geom in spec.geoms:
        if geom.name != "ground":
            geom.contype, geom.conaffinity, geom.rgba = 1, 0, ROBOT
    for index, link in enumerate(robot.links):
        _add_shapes(mujoco, bodies[link], robot, index)
    for geom in spec.geoms:
        # A contact exists from this distance on, but presses only where it touches.
        geom.margin = geom.gap = NEAR / 2
    for joint, torque in zip(robot.joints, effort, strict=True):
        spec.joint(joint.name).armature = gains.armature
        motor = spec.add_actuator(name=joint.name, target=joint.name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        motor.gaintype, motor.biastype = mujoco.mjtGain.mjGAIN_FIXED, mujoco.mjtBias.mjBIAS_AFFINE
        motor.forcelimited, motor.forcerange = True, [-torque, torque]


def _add_ground(mujoco: ModuleType, spec: Any) -> None:
    """Add a plane with squares of half a metre, and a light sky."""
    textures, patterns = mujoco.mjtTexture, mujoco.mjtBuiltin
    flat = {"type": textures.mjTEXTURE_SKYBOX, "builtin": patterns.mjBUILTIN_FLAT, "width": 8, "height": 48}
    spec.add_texture(name="sky", rgb1=SKY, rgb2=SKY, **flat)
    squares = {"type": textures.mjTEXTURE_2D, "builtin": patterns.mjBUILTIN_CHECKER, "width": 64, "height": 64}
    spec.add_texture(name="squares", rgb1=GROUND, rgb2=SQUARES, **squares)
    material = spec.add_material(name="ground", texrepeat=[1, 1], texuniform=True)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "squares"
    plane = {"type": mujoco.mjtGeom.mjGEOM_PLANE, "size": [0, 0, 0.05], "material": "ground"}
    spec.worldbody.add_geom(name="ground", contype=0, conaffinity=1, **plane)
    spec.visual.headlight.ambient, spec.visual.headlight.diffuse = [0.5] * 3, [0.5] * 3


def _add_shapes(mujoco: ModuleType, body: Any, robot: Robot, index: int) -> None:
    """Add capsules from a link to its children, or a ball to one without; a link with shapes keeps them.

    Around several, such as the corners of a sole, a box is drawn that touches nothing.
    """
    if own := [np.array(geom.pos) for geom in body.geoms]:
        low, high = np.min(own, 0), np.max(own, 0)
        if len(own) > 2:
            size = (high - low) / 2 + THIN
            box = {"contype": 0, "conaffinity": 0, "mass": 0, "rgba": ROBOT, "group": 1}
            body.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, pos=(low + high) / 2, size=size, **box)
        return
    shape = {"contype": 1, "conaffinity": 0, "mass": 0, "rgba": ROBOT}
    ends = [robot.origins[child] for child, parent in enumerate(robot.parents) if parent == index]
    ends = [end for end in ends if np.linalg.norm(end) > RADIUS]
    for end in ends:
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_CAPSULE, fromto=[0, 0, 0, *end], size=[RADIUS, 0, 0], **shape)
    if not ends and body.mass > LIGHT:
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, pos=body.ipos, size=[RADIUS, 0, 0], **shape)


def _inertia(mujoco: ModuleType, model: Any, data: Any) -> np.ndarray:
    """Return the inertia that each motor moves in the rest pose, in kg m^2, float64 [J]."""
    found = np.zeros(model.nv)
    for index, unit in enumerate(np.eye(model.nv)):
        moved = np.zeros(model.nv)
        mujoco.mj_mulM(model, data, moved, unit)
        found[index] = moved[index]
    return found[6:]


def lowest_point(body: Body, data: Any) -> float:
    """Return the height of the lowest point of the robot's shapes, in metres, after `mj_kinematics`."""
    mujoco, model = load_mujoco(), body.model
    shapes = mujoco.mjtGeom
    lowest = np.inf
    for geom in range(model.ngeom):
        kind, size, down = model.geom_type[geom], model.geom_size[geom], np.abs(data.geom_xmat[geom].reshape(3, 3)[2])
        if not model.geom_contype[geom]:
            continue  # the ground, and what is only drawn
        if kind == shapes.mjGEOM_SPHERE:
            below = size[0]
        elif kind == shapes.mjGEOM_CAPSULE:
            below = size[0] + size[1] * down[2]
        elif kind == shapes.mjGEOM_CYLINDER:
            below = size[0] * np.sqrt(max(0.0, 1 - down[2] ** 2)) + size[1] * down[2]
        else:  # a box
            below = size @ down
        lowest = min(lowest, data.geom_xpos[geom, 2] - below)
    return float(lowest)
