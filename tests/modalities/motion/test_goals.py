"""Costs of goals against values computed by hand, and goal files with mistakes."""

from pathlib import Path

import numpy as np
import pytest

from narrows.errors import NarrowsError
from narrows.modalities.motion.bvh import Bvh, write_bvh
from narrows.modalities.motion.columns import Column, infer_kinds
from narrows.modalities.motion.features import SkeletonLayout, TableLayout
from narrows.modalities.motion.formats import Format
from narrows.modalities.motion.goal_files import read_goals
from narrows.modalities.motion.goals import (
    Costs,
    Goals,
    HeadingGoal,
    MotionBatch,
    PathGoal,
    PoseGoal,
    PositionGoal,
    VelocityGoal,
)
from narrows.modalities.motion.series import TableFormat, TableReading
from narrows.modalities.motion.skeleton import Skeleton
from narrows.modalities.motion.skeletons import BvhFormat, BvhReading
from tests.modalities.motion.helpers import CHANNELS, WALKER, walker

RATE, FRAMES = 10.0, 11
ROOT = ["root_x", "root_y", "root_z", "root_qx", "root_qy", "root_qz", "root_qw"]
ROBOT = TableFormat(
    TableLayout(infer_kinds([*map(Column, ROOT), Column("knee", "angle", "deg")]), RATE), 100, TableReading()
)


def robot(speeds: tuple[float, float] = (1, 0), turn: float = 0.0, knee: float = 0.0) -> np.ndarray:
    """Features of a second with speeds in m/s along the heading and to its left, and a turn in radians per second."""
    features = np.zeros((FRAMES, ROBOT.size))
    features[:, :4] = [*speeds, 0.8, turn]
    features[:, [4, 8]] = 1  # no tilt
    features[:, -1] = knee
    return features


def costs(form: Format, *goals: object, motions: list[np.ndarray]) -> Costs:
    return Goals(goals).costs(MotionBatch(np.stack(motions), form))  # type: ignore[arg-type]


def test_places_and_headings_by_hand() -> None:
    common = {"unit": "m", "within": 0.1}
    place = PositionGoal(place=np.array([100.0, 0.0]), at=FRAMES - 1, **common)
    heading = HeadingGoal(angle=-170.0, at=FRAMES - 1, unit="deg", within=10, weight=2)
    total, misses = costs(ROBOT, place, heading, motions=[robot(), robot((0, 1)), robot((1, 0), np.pi)])
    np.testing.assert_allclose(misses["heading"], [170, 170, 10])
    # The last one goes round half a polygon of 20 sides of 10 cm, which is 10 / sin(9 degrees) cm wide.
    width = 10 / np.sin(np.deg2rad(9))
    ended = np.array(
        [10 * np.cos(np.deg2rad(18) * np.arange(10)).sum(), 10 * np.sin(np.deg2rad(18) * np.arange(10)).sum()]
    )
    np.testing.assert_allclose(np.linalg.norm(ended), width)
    np.testing.assert_allclose(misses["position"], [0, 2**0.5, np.linalg.norm(ended - [100, 0]) / 100], atol=1e-12)
    np.testing.assert_allclose(total, 100 * misses["position"] + 2 * misses["heading"])


def test_a_path_and_a_velocity_by_hand() -> None:
    path = PathGoal(places=np.array([[50.0, 0.0], [60.0, 30.0]]), first=5, unit="cm", within=1)
    velocity = VelocityGoal(velocity=np.array([100.0, 50.0]), first=2, last=8, unit="m/s", within=1)
    _, misses = costs(ROBOT, path, velocity, motions=[robot(), robot((1, 0.5))])
    np.testing.assert_allclose(misses["path"], [15, 12.5])
    np.testing.assert_allclose(misses["velocity"], [0.5, 0], atol=1e-12)


def test_a_pose_of_angles_counts_wherever_the_root_is() -> None:
    goal = PoseGoal(pose=robot()[0], at=4, unit="deg", within=1)
    _, misses = costs(ROBOT, goal, motions=[robot((5, 5), 2), robot(knee=30)])
    np.testing.assert_allclose(misses["pose"], [0, 15], atol=1e-9)  # of the root and of the knee


def test_a_pose_without_a_root() -> None:
    columns = [Column("knee", "angle", "deg"), Column("elbow", "angle", "deg"), Column("wrist", "angle", "deg")]
    form = TableFormat(TableLayout(columns, RATE), 100, TableReading())
    goal = PoseGoal(pose=np.array([10.0, 20.0, 30.0]), at=1, unit="deg", within=1)
    found = costs(form, goal, motions=[np.array([[0.0, 0, 0], [10, 20, 30]]), np.array([[0.0, 0, 0], [10, 350, 30]])])
    np.testing.assert_allclose(found.total, [0, 10], atol=1e-9)


def walks() -> BvhFormat:
    layout = SkeletonLayout(Bvh(WALKER, CHANNELS, 1 / 30, np.zeros((0, 18))))
    return BvhFormat(layout, 2.0, BvhReading())


def test_a_pose_of_a_skeleton_is_measured_in_cm_and_y_may_be_up() -> None:
    form = walks()
    still = np.zeros((10, 18))
    still[:, 1], raised = 90, 0
    raised = still.copy()
    raised[:, 1] += 3
    features = [form.features(Bvh(WALKER, CHANNELS, 1 / 30, values)) for values in (still, raised)]
    goal = PoseGoal(pose=features[0][0], at=9, unit="cm", within=1)
    np.testing.assert_allclose(costs(form, goal, motions=features).total, [0, 6], atol=1e-4)
    moving = still.copy()
    moving[:, [0, 2]] = np.outer(np.arange(10), [1, 2])
    place = PositionGoal(place=np.array([18.0, 36.0]), at=9, unit="cm", within=1)
    found = costs(form, place, motions=[form.features(Bvh(WALKER, CHANNELS, 1 / 30, moving))])
    np.testing.assert_allclose(found.total, 0, atol=1e-4)


def test_goals_of_a_file(tmp_path: Path) -> None:
    form, file = walks(), tmp_path / "goal.yaml"
    write_bvh(tmp_path / "walk.bvh", walker(40))
    file.write_text(
        "path: {points: [[0, 0, 0], [0.1, 0.03, 0.06]], unit: m}\n"
        "position: {to: [1, 2], at: -2, within: 3, weight: 4}\n"
        "heading: {to: 1, unit: rad}\npose: {file: walk.bvh, frame: 20}\nvelocity: {to: [0.5, 1], unit: m/s, from: 3}\n"
    )
    path, position, heading, pose, velocity = read_goals(file, form, 10).parts
    assert isinstance(path, PathGoal)
    np.testing.assert_allclose(path.places, [[0, 0], [1, 2], [2, 4], [3, 6]])
    assert isinstance(position, PositionGoal)
    assert (position.place.tolist(), position.at, position.within, position.weight) == ([1, 2], 8, 3, 4)
    assert isinstance(heading, HeadingGoal)
    assert heading.angle == pytest.approx(57.29578)
    assert isinstance(pose, PoseGoal)
    np.testing.assert_allclose(pose.pose, form.features(walker(40))[20], atol=1e-4)
    assert isinstance(velocity, VelocityGoal)
    assert (velocity.velocity.tolist(), velocity.first, velocity.last) == ([50, 100], 3, 9)
    assert velocity.within == pytest.approx(0.2)
    (tmp_path / "path.csv").write_text("x,z,time\n0,0,0\n3,6,0.1\n")
    (from_table,) = read_goals(tmp_path / "path.csv", form, 10).parts
    assert isinstance(from_table, PathGoal)
    np.testing.assert_allclose(from_table.places, path.places)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "has no goals: known are path, position, heading, pose, velocity"),
        ("place: {to: [1, 2]}", "'place' is not a goal"),
        ("heading: 90", "heading must be a mapping"),
        ("heading: {to: 90, wait: 1}", "heading: 'wait' is not a setting of it: known are to, at, weight"),
        ("heading: {at: 3}", "heading: to is missing: it must be a number"),
        ("heading: {to: east}", "heading: to is 'east': it must be a number"),
        ("heading: {to: .nan}", "it must be finite"),
        ("heading: {to: 1, at: 10}", "at is 10: the motion has the frames 0 to 9"),
        ("heading: {to: 1, unit: m}", "unit is 'm': it must be one of deg, rad"),
        ("heading: {to: 1, weight: -1}", "weight is -1: it must be at least 0"),
        ("position: {to: 3}", "position: to is 3: it must be 2 numbers"),
        ("velocity: {to: [1, 1], from: 5, at: 5}", "from is frame 5, which is not before frame 5"),
        ("path: {points: []}", "points must be a list of [seconds, x, z]"),
        ("path: {weight: 1}", "it needs either a file or points"),
        ("path: {points: [[0, 1, 1], [0, 2, 2]]}", "its times do not rise"),
        ("path: {points: [[0, 1, 1], [1, 2, 2]]}", "from 0 to 1 s, but the motion's are from 0 to 0.3 s"),
        ("path: {file: ragged.csv}", "ragged.csv: line 3"),
        ("pose: {frame: 1}", "pose: file is missing"),
        ("pose: {file: walk.bvh, frame: 40}", "frame is 40: "),
        (
            "pose: {file: other.bvh}",
            "other.bvh: it has a skeleton without rightFoot, with unknown tail, unlike the model's",
        ),
    ],
)
def test_mistakes_are_named(text: str, message: str, tmp_path: Path) -> None:
    write_bvh(tmp_path / "walk.bvh", walker(40))
    other = Skeleton(("hips", "leftLeg", "leftFoot", "rightLeg", "tail"), WALKER.parents, WALKER.offsets)
    write_bvh(tmp_path / "other.bvh", Bvh(other, CHANNELS, 1 / 30, walker(20).values))
    (tmp_path / "ragged.csv").write_text("time,x,z\n0,0,0\n1,1\n")
    (tmp_path / "goal.yaml").write_text(text)
    with pytest.raises(NarrowsError) as raised:
        read_goals(tmp_path / "goal.yaml", walks(), 10)
    assert message in str(raised.value)
    assert "goal.yaml" in str(raised.value)


def test_data_without_a_root_have_poses_only(tmp_path: Path) -> None:
    (tmp_path / "goal.yaml").write_text("position: {to: [1, 2]}")
    form = TableFormat(TableLayout([Column("knee", "angle", "deg")], RATE), 100, TableReading())
    with pytest.raises(NarrowsError, match="no position and quaternion of a root, so only a pose"):
        read_goals(tmp_path / "goal.yaml", form, 10)


def test_missed_goals_in_words() -> None:
    goals = Goals(
        [HeadingGoal(angle=0, at=0, unit="deg", within=5), PositionGoal(place=np.zeros(2), at=0, unit="m", within=1)]
    )
    assert goals.missed({"heading": 5.0, "position": 1.25}) == ["position by 1.25 m"]
