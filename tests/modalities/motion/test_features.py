from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from narrows.data import DataError
from narrows.modalities.motion.bvh import Bvh, read_bvh, write_bvh
from narrows.modalities.motion.columns import Column, infer_kinds
from narrows.modalities.motion.features import SkeletonLayout, TableLayout, find_moving_joints
from narrows.modalities.motion.root import Start, Up
from narrows.modalities.motion.rotations import quaternion_to_matrix, rotation_angle
from narrows.modalities.motion.skeleton import EndSite, Skeleton

SKELETON = Skeleton(
    ("hips", "leg", "foot", "spine", "nose"),
    (-1, 0, 1, 0, 3),
    np.array([[0, 90, 0], [10, 0, 0], [0, -40, 0], [0, 0, 0], [0, 20, 5.0]]),
    (EndSite(2, (0, 0, 10)), EndSite(4, (0, 0, 1))),
)
POSITIONS = ("Xposition", "Yposition", "Zposition")
ON_ROOT = ((*POSITIONS, "Zrotation", "Yrotation", "Xrotation"), *[("Zrotation", "Xrotation", "Yrotation")] * 3, ())
ON_ALL = (
    (*POSITIONS, "Yrotation", "Xrotation", "Zrotation"),
    *[(*POSITIONS, "Zrotation", "Xrotation", "Yrotation")] * 4,
)


def dancing(channels: tuple[tuple[str, ...], ...], frames: int = 3000) -> Bvh:
    """A motion in centimetres that goes far, turns all joints by several turns, and stretches the foot's bone."""
    generator = np.random.default_rng(0)
    size = sum(map(len, channels))
    values = generator.normal(0, 4, (frames, size)).cumsum(0)
    first = 0
    for joint, names in enumerate(channels):
        for index, name in enumerate(names):
            if joint and name in POSITIONS:
                stretch = 0.05 * values[:, first + index] if SKELETON.joints[joint] == "foot" else 0
                values[:, first + index] = SKELETON.offsets[joint, index] + stretch
        first += len(names)
    return Bvh(SKELETON, channels, 1 / 60, values)


@pytest.mark.parametrize("up", ["y", "z"])
@pytest.mark.parametrize(("channels", "moving", "size"), [(ON_ROOT, (), 10 + 18), (ON_ALL, (2,), 10 + 24 + 3)])
def test_skeleton_through_features_and_a_file(
    tmp_path: Path, up: Up, channels: tuple[tuple[str, ...], ...], moving: tuple[int, ...], size: int
) -> None:
    """Within 0.01 degrees and 0.1 mm."""
    clip = dancing(channels)
    assert find_moving_joints([clip]) == moving
    layout = SkeletonLayout(replace(clip, values=clip.values[:0]), up, moving)
    features, start = layout.features(clip)
    assert features.shape == (3000, layout.size) == (3000, size)
    assert features.dtype == np.float32
    write_bvh(tmp_path / "a.bvh", layout.motion(features, start))
    found = read_bvh((tmp_path / "a.bvh").read_bytes())
    assert found.channels == channels
    assert rotation_angle(found.rotations(), clip.rotations()).max() < 1e-3
    expected, pose = clip.pose(), found.pose()
    assert np.abs(pose.positions - expected.positions).max() < 1e-3
    assert np.abs(SKELETON.end_positions(pose) - SKELETON.end_positions(expected)).max() < 1e-3


def test_still_joints_stay_at_their_offset() -> None:
    clip = dancing(ON_ALL, 10)
    layout = SkeletonLayout(clip)
    back = layout.motion(*layout.features(clip))
    np.testing.assert_array_equal(back.translations()[:, 1:], np.broadcast_to(SKELETON.offsets[1:], (10, 4, 3)))


def test_moving_joints_of_several_clips_are_joined() -> None:
    clip = dancing(ON_ALL, 10)
    values = clip.values.copy()
    values[3, 6] += 0.01  # x of the leg
    assert find_moving_joints([clip, replace(clip, values=values)]) == (1, 2)
    assert find_moving_joints([]) == ()
    # In metres, too: 0.1 mm is much, and rounding to six decimals is nothing.
    metres = replace(SKELETON, offsets=SKELETON.offsets / 100)
    for error, moving in ((1e-4, (1,)), (1e-6, ())):
        small = np.zeros_like(clip.values)
        for joint in range(1, 5):
            small[:, 6 * joint : 6 * joint + 3] = metres.offsets[joint]
        small[3, 6] += error
        assert find_moving_joints([replace(clip, skeleton=metres, values=small)]) == moving


def test_another_skeleton_is_refused_by_its_joints() -> None:
    clip = dancing(ON_ROOT, 4)
    other = replace(clip, skeleton=replace(SKELETON, joints=("hips", "leg", "toe", "spine", "nose")))
    with pytest.raises(DataError, match="it has a skeleton without foot, with unknown toe, unlike the model's"):
        SkeletonLayout(clip).features(other)


def test_another_frame_time_is_refused_unless_it_was_rounded() -> None:
    clip = dancing(ON_ROOT, 4)
    with pytest.raises(DataError, match="it has 120 frames per second, but the model's motions 60"):
        SkeletonLayout(clip).features(replace(clip, frame_time=1 / 120))
    SkeletonLayout(clip).features(replace(clip, frame_time=0.016667))


COLUMNS = [
    Column("t", "time", "s"),
    *infer_kinds([Column(f"root_{axis}") for axis in ("x", "y", "z", "qx", "qy", "qz", "qw")]),
    Column("knee", "angle", "rad"),
    Column("course", "wrapping angle", "deg"),
    Column("wheel", "wrapping angle", "rad"),
    *(Column(f"hand_{axis}", "quaternion") for axis in "wxyz"),
    Column("force", "value", "N"),
]


def logged(frames: int = 5000) -> np.ndarray:
    """A log of these columns at 50 Hz."""
    generator = np.random.default_rng(0)
    values = generator.normal(0, 0.05, (frames, len(COLUMNS))).cumsum(0)
    values[:, 0] = np.arange(frames) / 50
    for group in (slice(4, 8), slice(11, 15)):
        values[:, group] += [0.1, 0.2, 0.3, 0.4]
        values[:, group] /= np.linalg.norm(values[:, group], axis=1, keepdims=True)
    return values


def wrapped(angles: np.ndarray, turn: float) -> np.ndarray:
    return (angles + turn / 2) % turn - turn / 2


@pytest.mark.parametrize("up", ["y", "z"])
def test_table_through_features(up: Up) -> None:
    values, layout = logged(), TableLayout(COLUMNS, 50.0, up)
    features, start = layout.features(values)
    assert features.shape == (5000, layout.size) == (5000, 10 + 6 + 2 * 2 + 2)
    found = layout.values(features, start)
    assert found.shape == values.shape
    np.testing.assert_allclose(found[:, [0, 8, 15]], values[:, [0, 8, 15]], rtol=1e-6)
    assert np.abs(found[:, 1:4] - values[:, 1:4]).max() < 1e-4
    for group in ([4, 5, 6, 7], [12, 13, 14, 11]):
        matrices = (quaternion_to_matrix(part[:, group]) for part in (found, values))
        assert rotation_angle(*matrices).max() < 1e-3
    assert np.abs(wrapped(found[:, 9] - values[:, 9], 360)).max() < 1e-3
    assert np.abs(wrapped(found[:, 10] - values[:, 10], 2 * np.pi)).max() < 1e-5


def test_angles_that_wrap_are_cosine_and_sine() -> None:
    columns = [Column("course", "wrapping angle", "deg"), Column("speed")]
    layout = TableLayout(columns, 10.0)
    features, start = layout.features(np.array([[60.0, 3], [359, 4], [1, 5]]))
    assert start == Start()
    np.testing.assert_allclose(features[0], [0.5, np.sqrt(0.75), 3], rtol=1e-6)
    assert np.abs(features[1] - features[2])[:2].max() < 0.04
    np.testing.assert_allclose(layout.values(features, start), [[60, 3], [-1, 4], [1, 5]], rtol=1e-4)


@pytest.mark.parametrize(
    ("kept", "size"),
    [(slice(1, 4), 3), (slice(4, 8), 6), (slice(1, 8), 10)],
    ids=["position", "quaternion", "both"],
)
def test_root_needs_position_and_quaternion(kept: slice, size: int) -> None:
    values, layout = logged(50)[:, kept], TableLayout(COLUMNS[kept], 50.0)
    features, start = layout.features(values)
    assert features.shape == (50, layout.size) == (50, size)
    found = layout.values(features, start)
    same = (found * np.sign((found * values).sum(1, keepdims=True)) if size == 6 else found)[:, : values.shape[1]]
    np.testing.assert_allclose(same[:, :3], values[:, :3], atol=1e-5)
