"""The kinematics of a robot from its URDF file: links, the joints between them, and forward kinematics.

Source: the URDF XML specification of ROS. Meshes and masses are not read.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from narrows.data.errors import DataError
from narrows.modalities.motion.rotations import quaternion_to_matrix
from narrows.modalities.motion.skeleton import Pose, forward_kinematics

__all__ = ["Robot", "RobotJoint", "read_urdf"]


@dataclass(frozen=True, eq=False)
class RobotJoint:
    """A joint that turns.

    Args:
        name: its name.
        link: the index of the link that it turns.
        axis: unit vector of its axis in the coordinates of that link, float64 [3].
        limits: the smallest and the largest angle in radians; None if it turns without end.
    """

    name: str
    link: int
    axis: np.ndarray
    limits: tuple[float, float] | None


@dataclass(frozen=True, eq=False)
class Robot:
    """A tree of rigid links.

    Args:
        links: the names of the L links; a link comes after its parent, and the base is the first.
        parents: the index of each link's parent; -1 for the base.
        origins: the position of each link relative to its parent, in metres, float64 [L, 3].
        turned: the rotation of each link relative to its parent at angle 0, matrices [L, 3, 3].
        joints: the J joints that turn, in the order of the file.
    """

    links: tuple[str, ...]
    parents: tuple[int, ...]
    origins: np.ndarray
    turned: np.ndarray
    joints: tuple[RobotJoint, ...]

    def pose(self, positions: np.ndarray, quaternions: np.ndarray, angles: np.ndarray) -> Pose:
        """Return the pose of the links in the world, [T, L, ...].

        Args:
            positions: of the base, in metres, [T, 3].
            quaternions: rotation of the base, (x, y, z, w), [T, 4].
            angles: of `joints`, in radians, [T, J].
        """
        rotations = np.tile(self.turned, (len(angles), 1, 1, 1))
        links = [joint.link for joint in self.joints]
        axes = np.array([joint.axis for joint in self.joints]).reshape(-1, 3)
        turns = Rotation.from_rotvec((angles[:, :, None] * axes).reshape(-1, 3)).as_matrix()
        rotations[:, links] = self.turned[links] @ turns.reshape(*angles.shape, 3, 3)
        translations = np.tile(self.origins, (len(angles), 1, 1))
        translations[:, 0], rotations[:, 0] = positions, quaternion_to_matrix(quaternions)
        return forward_kinematics(self.parents, rotations, translations)

    def find_joints(self, columns: Sequence[str]) -> list[int]:
        """Return the index of the column with the angles of each joint; a column may lack the end `_joint` of a name.

        Raises:
            DataError: naming the joints that have no column.
        """
        names = [(joint.name, joint.name.removesuffix("_joint")) for joint in self.joints]
        if missing := [name[0] for name in names if not set(name) & set(columns)]:
            raise DataError(f"there is no column for the joints {', '.join(missing)} of the robot")
        return [next(index for index, column in enumerate(columns) if column in name) for name in names]


def read_urdf(content: bytes) -> Robot:
    """Read the kinematics of a URDF file of fixed, revolute and continuous joints.

    Raises:
        DataError: naming the joint, if it is no URDF file, a joint is of another kind, is listed twice or has values
            that are not numbers, or the links are not one tree.
    """
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise DataError(f"it is no XML, or truncated: {error}") from error
    if root.tag != "robot":
        raise DataError(f"it is no URDF file: it has <{root.tag}> instead of <robot>")
    elements: dict[str, ElementTree.Element] = {}  # by the name of the link that the joint moves
    names: set[str] = set()
    for element in root.findall("joint"):
        name, child = element.get("name", ""), _link(element, "child")
        if name in names or child in elements:
            raise DataError(f"the joint {name!r} is listed twice, or moves the link {child!r} of another joint")
        names.add(name)
        elements[child] = element
    order = _order([link.get("name", "") for link in root.findall("link")], elements)
    parents, origins, turned, joints = [-1], [np.zeros(3)], [np.eye(3)], []
    for name in order[1:]:
        parents.append(order.index(_link(elements[name], "parent")))
        origin = elements[name].find("origin")
        origins.append(_vector(elements[name], origin, "xyz", (0, 0, 0)))
        angles = _vector(elements[name], origin, "rpy", (0, 0, 0))
        turned.append(Rotation.from_euler("xyz", angles).as_matrix())  # about fixed axes
    for name, element in elements.items():
        if element.get("type") != "fixed":
            joints.append(_joint(element, order.index(name)))
    return Robot(tuple(order), tuple(parents), np.array(origins), np.array(turned), tuple(joints))


def _link(joint: ElementTree.Element, end: str) -> str:
    element = joint.find(end)
    if element is None or not element.get("link"):
        raise DataError(f"the joint {joint.get('name')!r} has no {end} link")
    return element.get("link", "")


def _order(links: Sequence[str], elements: Mapping[str, ElementTree.Element]) -> list[str]:
    """Return the links in an order in which each comes after its parent."""
    parents = {child: _link(element, "parent") for child, element in elements.items()}
    if unknown := ({*parents, *parents.values()} - set(links)):
        raise DataError(f"the link {min(unknown)!r} of a joint is not in the file")
    bases = [link for link in links if link not in parents]
    if len(bases) != 1:
        raise DataError(f"it has {len(bases)} links without a parent ({', '.join(bases)}), but a robot has one base")
    order, children = bases, [link for link in links if link in parents]
    while children:
        ready = [link for link in children if parents[link] in order]
        if not ready:
            raise DataError(f"the links {', '.join(children)} form a cycle")
        order = order + ready
        children = [link for link in children if link not in ready]
    return order


def _vector(
    joint: ElementTree.Element, element: ElementTree.Element | None, name: str, default: tuple[float, ...]
) -> np.ndarray:
    text = None if element is None else element.get(name)
    if text is None:
        return np.array(default, np.float64)
    try:
        found = np.array([float(part) for part in text.split()])
    except ValueError:
        found = np.zeros(0)
    if len(found) != len(default) or not np.isfinite(found).all():
        raise DataError(f"the joint {joint.get('name')!r} has {name}={text!r} instead of {len(default)} numbers")
    return found


def _joint(element: ElementTree.Element, link: int) -> RobotJoint:
    name, kind, limit = element.get("name", ""), element.get("type"), element.find("limit")
    if kind not in ("revolute", "continuous"):
        raise DataError(f"the joint {name!r} is {kind}; known are fixed, revolute and continuous")
    axis = _vector(element, element.find("axis"), "xyz", (1, 0, 0))
    length = np.linalg.norm(axis)
    if not length:
        raise DataError(f"the axis of the joint {name!r} is zero")
    if kind == "continuous":
        return RobotJoint(name, link, axis / length, None)
    lower, upper = (float(_vector(element, limit, end, (0,))[0]) for end in ("lower", "upper"))
    return RobotJoint(name, link, axis / length, (lower, upper))
