"""A skeleton of joints, and the positions of its joints by forward kinematics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

__all__ = ["EndSite", "Pose", "Skeleton", "forward_kinematics", "skeleton_difference"]


class EndSite(NamedTuple):
    """The tip of a joint that has no joint after it, such as that of a toe or a finger."""

    joint: int
    """Index of the joint."""
    offset: tuple[float, float, float]
    """Position relative to the joint."""


class Pose(NamedTuple):
    """Joints in the coordinates of the world."""

    positions: np.ndarray
    """[T, J, 3], in the unit of the offsets."""
    rotations: np.ndarray
    """Matrices, [T, J, 3, 3]."""


@dataclass(frozen=True, eq=False)
class Skeleton:
    """A tree of joints.

    Args:
        joints: the names of the J joints; a joint comes after its parent, and the root is the first.
        parents: the index of each joint's parent; -1 for the root.
        offsets: the position of each joint relative to its parent in the rest pose, in the unit of the file,
            float64 [J, 3].
        ends: the end sites.
    """

    joints: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: np.ndarray
    ends: tuple[EndSite, ...] = ()

    def pose(self, rotations: np.ndarray, translations: np.ndarray) -> Pose:
        """Return the pose of the joints in the world; see `forward_kinematics`."""
        return forward_kinematics(self.parents, rotations, translations)

    def end_positions(self, pose: Pose) -> np.ndarray:
        """Return the positions of the end sites of a pose, [T, E, 3]."""
        joints = [end.joint for end in self.ends]
        offsets = np.array([end.offset for end in self.ends]).reshape(-1, 3, 1)
        return pose.positions[:, joints] + (pose.rotations[:, joints] @ offsets)[..., 0]


def forward_kinematics(parents: Sequence[int], rotations: np.ndarray, translations: np.ndarray) -> Pose:
    """Return the pose of a tree of joints in the world from rotations and translations relative to the parents.

    Args:
        parents: the index of each joint's parent, which comes before it; -1 for a root.
        rotations: the rotation of each joint relative to its parent, matrices [T, J, 3, 3].
        translations: the position of each joint relative to its parent, in its coordinates, [T, J, 3].
    """
    # With the frames last, each operation is one pass over contiguous memory.
    positions, turned = (
        np.array(np.moveaxis(part, 0, -1), np.float64, order="C") for part in (translations, rotations)
    )
    for joint, parent in enumerate(parents):
        if parent >= 0:
            positions[joint] = positions[parent] + (turned[parent] * positions[joint]).sum(1)
            turned[joint] = (turned[parent][:, :, None] * turned[joint]).sum(1)
    return Pose(np.moveaxis(positions, -1, 0), np.moveaxis(turned, -1, 0))


def skeleton_difference(expected: Skeleton, found: Skeleton) -> str | None:
    """Return a description of the joints in which a skeleton differs from the one expected; None if it does not.

    The names, their order and the parents count. The lengths of the bones do not: people of different size move alike.
    """
    missing = [joint for joint in expected.joints if joint not in found.joints]
    more = [joint for joint in found.joints if joint not in expected.joints]
    before, after = (_parent_names(skeleton) for skeleton in (expected, found))
    moved = [
        f"{joint} (child of {after[joint] or 'nothing'} instead of {before[joint] or 'nothing'})"
        for joint in expected.joints
        if joint in after and before[joint] != after[joint]
    ]
    parts = {"without": missing, "with unknown": more, "with another parent:": moved}
    differences = [f"{what} {_shortened(names)}" for what, names in parts.items() if names]
    if not differences and expected.joints != found.joints:
        first = next(a for a, b in zip(expected.joints, found.joints, strict=True) if a != b)
        differences = [f"with its joints in another order from {first} on"]
    return "a skeleton " + ", ".join(differences) if differences else None


def _parent_names(skeleton: Skeleton) -> dict[str, str | None]:
    names = (None if parent < 0 else skeleton.joints[parent] for parent in skeleton.parents)
    return dict(zip(skeleton.joints, names, strict=True))


def _shortened(names: list[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
