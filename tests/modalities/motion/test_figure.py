"""Stick figures of skeletons and robots."""

import numpy as np
import pytest

from narrows.modalities.motion.figure import RIGHT, StickFigure, robot_figure, skeleton_figure
from narrows.modalities.motion.skeleton import EndSite, Skeleton
from narrows.modalities.motion.urdf import read_urdf


def test_a_skeleton_has_bones_to_its_end_sites() -> None:
    offsets = np.array([[0, 1, 0], [1, 0, 0], [-1, 0, 0]], float)
    ends = (EndSite(1, (0.5, 0, 0)), EndSite(2, (-0.5, 0, 0)))
    skeleton = Skeleton(("Hips", "LeftArm", "RightArm"), (-1, 0, 0), offsets, ends)
    quarter = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]], float)  # x turns to y
    rotations = np.stack([np.eye(3), quarter, np.eye(3)])[None]
    figure = skeleton_figure("T", skeleton, skeleton.pose(rotations, offsets[None]))
    assert figure.bones == [(0, 1), (0, 2), (1, 3), (2, 4)]
    assert list(figure.marked) == [1, 3]
    np.testing.assert_allclose(figure.positions[0, 3:], [[1, 1.5, 0], [-1.5, 1, 0]])


def test_a_robot_has_a_bone_from_each_link_to_its_parent() -> None:
    robot = read_urdf(
        b'<robot><link name="base"/><link name="right_hand"/>'
        b'<joint name="arm" type="fixed"><parent link="base"/><child link="right_hand"/>'
        b'<origin xyz="0 0 2"/></joint></robot>'
    )
    pose = robot.pose(np.array([[1.0, 0, 0]]), np.array([[0, 0, 0, 1.0]]), np.zeros((1, 0)))
    figure = robot_figure("R", robot, pose)
    assert (figure.bones, list(figure.marked)) == ([(0, 1)], [0])
    np.testing.assert_allclose(figure.positions, [[[1, 0, 0], [1, 0, 2]]])


@pytest.mark.parametrize(
    "name", ["RightArm", "rForeArm", "RThigh", "right_knee_link", "R_Knee", "knee.R", "Bip01 R Thigh", "hip:RightLeg"]
)
def test_names_of_the_right_side(name: str) -> None:
    assert RIGHT.search(name)


@pytest.mark.parametrize("name", ["root", "Ribs", "LeftArm", "lThumb1", "Spine", "Neck", "upright", "left_roll_link"])
def test_other_names(name: str) -> None:
    assert not RIGHT.search(name)


@pytest.mark.parametrize("case", range(4))
def test_a_wrong_figure_is_named(case: int) -> None:
    positions, bones, marked = np.zeros((2, 2, 3)), [(0, 1)], ()
    wrong = [
        (positions[0], bones, marked),
        (positions * np.nan, bones, marked),
        (positions, [(0, 2)], marked),
        (positions, bones, (1,)),
    ][case]
    with pytest.raises(ValueError, match="'lame'"):
        StickFigure("lame", *wrong)
