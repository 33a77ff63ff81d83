import numpy as np
import pytest

from narrows.data import DataError
from narrows.modalities.motion.urdf import read_urdf

URDF = """<?xml version="1.0"?>
<robot name="arm">
  <!-- <joint name="floating_base_joint" type="floating"><parent link="world"/><child link="pelvis"/></joint> -->
  <link name="hand"/><link name="lower"><inertial><mass value="1"/></inertial></link><link name="base"/>
  <link name="upper"/>
  <joint name="tip" type="fixed">
    <parent link="lower"/><child link="hand"/><origin xyz="1 0 0"/>
  </joint>
  <joint name="elbow_joint" type="revolute">
    <parent link="upper"/><child link="lower"/>
    <origin xyz="2 0 0" rpy="0 0 1.5707963267948966"/><axis xyz="0 2 0"/><limit lower="-1" upper="1.5"/>
  </joint>
  <joint name="shoulder" type="continuous">
    <parent link="base"/><child link="upper"/><origin xyz="0 0 1" rpy="0 0 0"/><axis xyz="0 0 1"/>
  </joint>
</robot>
"""
STILL = np.array([[0, 0, 0, 1.0]])


def test_links_joints_and_limits() -> None:
    robot = read_urdf(URDF.encode())
    assert robot.links == ("base", "upper", "lower", "hand")
    assert robot.parents == (-1, 0, 1, 2)
    assert [joint.name for joint in robot.joints] == ["elbow_joint", "shoulder"]
    assert [joint.limits for joint in robot.joints] == [(-1, 1.5), None]
    np.testing.assert_array_equal(robot.joints[0].axis, [0, 1, 0])


def test_pose_computed_by_hand() -> None:
    """At rest the lower arm points to y, because its origin is turned by 90 degrees about z.

    The axis of the elbow, y of the lower arm, is then -x of the upper arm: 90 degrees turn the hand from y to -z. The
    shoulder turns all of it by 90 degrees about z; at last, the base is turned by 180 degrees about x.
    """
    robot = read_urdf(URDF.encode())
    half = np.pi / 2
    angles = np.array([[0, 0], [half, 0], [half, half], [half, half]])
    quaternions = np.concatenate([STILL, STILL, STILL, [[1, 0, 0, 0]]])
    positions = np.array([[0, 0, 0], [0, 0, 0], [0, 0, 0], [5, 0, 0]])
    pose = robot.pose(positions, quaternions, angles)
    expected = [
        [[0, 0, 0], [0, 0, 1], [2, 0, 1], [2, 1, 1]],
        [[0, 0, 0], [0, 0, 1], [2, 0, 1], [2, 0, 0]],
        [[0, 0, 0], [0, 0, 1], [0, 2, 1], [0, 2, 0]],
        [[5, 0, 0], [5, 0, -1], [5, -2, -1], [5, -2, 0]],
    ]
    np.testing.assert_allclose(pose.positions, expected, atol=1e-12)


def test_roll_pitch_and_yaw_are_about_fixed_axes() -> None:
    """Roll by 90 degrees takes y to z, and then yaw by 90 degrees takes x to y."""
    text = URDF.replace('rpy="0 0 1.5707963267948966"', 'rpy="1.5707963267948966 0 1.5707963267948966"')
    np.testing.assert_allclose(read_urdf(text.encode()).turned[2], [[0, 0, 1], [1, 0, 0], [0, 1, 0]], atol=1e-12)


def test_columns_of_the_joints() -> None:
    robot = read_urdf(URDF.encode())
    assert robot.find_joints(["time", "shoulder", "elbow"]) == [2, 1]
    assert robot.find_joints(["elbow_joint", "shoulder"]) == [0, 1]
    with pytest.raises(DataError, match="no column for the joints elbow_joint, shoulder of the robot"):
        robot.find_joints(["time"])


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("</robot>", "", "no XML, or truncated"),
        ("robot", "mujoco", "it has <mujoco> instead of <robot>"),
        ('type="continuous"', 'type="prismatic"', "the joint 'shoulder' is prismatic"),
        ('"shoulder"', '"tip"', "the joint 'tip' is listed twice"),
        ('child link="lower"', 'child link="hand"', "'elbow_joint' .* moves the link 'hand' of another joint"),
        ('<child link="hand"/>', "", "the joint 'tip' has no child link"),
        ('link="upper"/><child', 'link="world"/><child', "the link 'world' of a joint is not in the file"),
        ('<link name="hand"/>', '<link name="hand"/><link name="b"/>', r"2 links without a parent \(b, base\)"),
        ('parent link="upper"', 'parent link="hand"', "links hand, lower form a cycle"),
        ('xyz="2 0 0"', 'xyz="2 0"', "the joint 'elbow_joint' has xyz='2 0' instead of 3 numbers"),
        ('xyz="2 0 0"', 'xyz="2 0 nan"', "'elbow_joint' has xyz='2 0 nan'"),
        ('lower="-1"', 'lower="low"', "'elbow_joint' has lower='low' instead of 1 numbers"),
        ('xyz="0 2 0"', 'xyz="0 0 0"', "the axis of the joint 'elbow_joint' is zero"),
    ],
)
def test_bad_files(before: str, after: str, message: str) -> None:
    assert before in URDF
    with pytest.raises(DataError, match=message):
        read_urdf(URDF.replace(before, after).encode())
