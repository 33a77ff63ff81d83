import re
from dataclasses import replace

import numpy as np
import pytest

from narrows.modalities.motion.rotations import euler_to_matrix
from narrows.modalities.motion.skeleton import EndSite, Skeleton, skeleton_difference

ARM = Skeleton(
    ("shoulder", "elbow", "wrist"),
    (-1, 0, 1),
    np.array([[0, 0, 0], [3, 0, 0], [2, 0, 0.0]]),
    (EndSite(2, (1, 0, 0)), EndSite(2, (0, 0, 1))),
)


def test_pose_of_an_arm_computed_by_hand() -> None:
    """The upper arm points to y; the lower arm, bent by another 90 degrees, to -x, and the hand to -y."""
    rotations = euler_to_matrix(np.array([[[90.0], [90], [90]], [[0], [90], [0]]]), "Z")
    translations = np.stack([ARM.offsets, ARM.offsets])
    translations[:, 0] = 1
    pose = ARM.pose(rotations, translations)
    np.testing.assert_allclose(pose.positions[0], [[1, 1, 1], [1, 4, 1], [-1, 4, 1]], atol=1e-12)
    np.testing.assert_allclose(pose.positions[1], [[1, 1, 1], [4, 1, 1], [4, 3, 1]], atol=1e-12)
    np.testing.assert_allclose(pose.rotations[0, 2], euler_to_matrix(np.array([270.0]), "Z"), atol=1e-12)
    ends = ARM.end_positions(pose)
    np.testing.assert_allclose(ends[0], [[-1, 3, 1], [-1, 4, 2]], atol=1e-12)
    np.testing.assert_allclose(ends[1], [[4, 4, 1], [4, 3, 2]], atol=1e-12)


def test_skeleton_without_end_sites() -> None:
    pose = replace(ARM, ends=()).pose(np.zeros((4, 3, 3, 3)), np.zeros((4, 3, 3)))
    assert replace(ARM, ends=()).end_positions(pose).shape == (4, 0, 3)


@pytest.mark.parametrize(
    ("joints", "parents", "message"),
    [
        (("shoulder", "elbow", "hand"), (-1, 0, 1), "without wrist, with unknown hand"),
        (("shoulder", "elbow", "wrist"), (-1, 0, 0), r"wrist \(child of shoulder instead of elbow\)"),
        (("shoulder", "elbow"), (-1, 0), "without wrist$"),
        (("wrist", "elbow", "shoulder"), (-1, 0, 1), r"shoulder \(child of elbow instead of nothing\)"),
    ],
)
def test_difference_names_the_joints(joints: tuple[str, ...], parents: tuple[int, ...], message: str) -> None:
    told = skeleton_difference(ARM, Skeleton(joints, parents, np.zeros((len(joints), 3))))
    assert told is not None
    assert re.search(message, told)


def test_difference_of_order_and_none_of_bone_lengths() -> None:
    both = Skeleton(("hip", "left", "right"), (-1, 0, 0), np.zeros((3, 3)))
    told = skeleton_difference(both, replace(both, joints=("hip", "right", "left")))
    assert told == "a skeleton with its joints in another order from left on"
    assert skeleton_difference(both, replace(both, offsets=np.ones((3, 3)))) is None
    many = Skeleton(tuple(f"j{n}" for n in range(30)), (-1, *range(29)), np.zeros((30, 3)))
    assert "j9 and 20 more" in str(skeleton_difference(many, both))
