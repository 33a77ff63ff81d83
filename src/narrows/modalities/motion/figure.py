"""Stick figures: the positions of joints over time, and the bones between them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from narrows.modalities.motion.skeleton import Pose, Skeleton
from narrows.modalities.motion.urdf import Robot

__all__ = ["StickFigure", "robot_figure", "skeleton_figure"]

RIGHT = re.compile(r"(?:^|[\W_])(?:r|R|right|Right|RIGHT)(?=[\W_A-Z]|$)|Right(?![a-z])")
"""Matches the names of joints of the right side, such as RightArm, rForeArm, right_knee_link and knee.R."""


@dataclass(frozen=True, eq=False)
class StickFigure:
    """A moving stick figure with a name.

    Args:
        name: the text above it.
        positions: of its joints in the world, in any unit, float [T, J, 3]; the first joint is the root.
        bones: pairs of indices of joints, [B, 2].
        marked: indices of the bones drawn in a second colour, such as those of the right side.

    Raises:
        ValueError: if the positions have another shape or are not finite, or a bone has no such joint.
    """

    name: str
    positions: np.ndarray
    bones: Sequence[tuple[int, int]]
    marked: Sequence[int] = ()

    def __post_init__(self) -> None:
        shape = self.positions.shape
        if len(shape) != 3 or shape[2] != 3 or 0 in shape:
            raise ValueError(f"A stick figure needs positions [T, J, 3]; {self.name!r} has {list(shape)}.")
        if not np.isfinite(self.positions).all():
            raise ValueError(f"The stick figure {self.name!r} has positions that are not finite.")
        if any(not 0 <= joint < shape[1] for bone in self.bones for joint in bone):
            raise ValueError(f"A bone of the stick figure {self.name!r} is not between two of its {shape[1]} joints.")
        if any(not 0 <= bone < len(self.bones) for bone in self.marked):
            raise ValueError(f"The stick figure {self.name!r} has {len(self.bones)} bones, and marks another one.")


def skeleton_figure(name: str, skeleton: Skeleton, pose: Pose) -> StickFigure:
    """Return the stick figure of a skeleton, with its end sites; the bones of the right side are marked."""
    positions = np.concatenate([pose.positions, skeleton.end_positions(pose)], 1)
    return _tree(name, positions, [*skeleton.parents, *(end.joint for end in skeleton.ends)], skeleton.joints)


def robot_figure(name: str, robot: Robot, pose: Pose) -> StickFigure:
    """Return the stick figure of a robot, a bone from each link to its parent; those of the right side are marked."""
    return _tree(name, pose.positions, robot.parents, robot.links)


def _tree(name: str, positions: np.ndarray, parents: Sequence[int], names: Sequence[str]) -> StickFigure:
    """Return the figure of a tree; joints without a name, the last ones, are of the side of their parents."""
    bones = [(parent, joint) for joint, parent in enumerate(parents) if parent >= 0]
    right = [RIGHT.search(joint) is not None for joint in names]
    owners = [joint if joint < len(names) else parent for parent, joint in bones]
    return StickFigure(name, positions, bones, [bone for bone, joint in enumerate(owners) if right[joint]])
