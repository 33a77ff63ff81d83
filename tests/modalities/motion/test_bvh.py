from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from narrows.data import DataError
from narrows.modalities.motion.bvh import Bvh, read_bvh, write_bvh
from narrows.modalities.motion.rotations import rotation_angle
from narrows.modalities.motion.skeleton import EndSite

TEXT = """HIERARCHY
ROOT Hips
{
\tOFFSET 0.0 90.0 0.0
\tCHANNELS 6 Xposition Yposition Zposition Zrotation Yrotation Xrotation
\tJOINT Left Leg
\t{
\t\tOFFSET 10.0 0.0 0.0
\t\tCHANNELS 3 Zrotation Xrotation Yrotation
\t\tEnd Site
\t\t{
\t\t\tOFFSET 0.0 -40.0 0.0
\t\t}
\t\tEnd Site
\t\t{
\t\t\tOFFSET 0.0 -40.0 5.0
\t\t}
\t}
\tJOINT Spine
\t{
\t\tOFFSET 0.0 0.0 0.0
\t\tCHANNELS 0
\t\tJOINT Head
\t\t{
\t\t\tOFFSET 0.0 50.0 0.0
\t\t\tCHANNELS 2 Yrotation Zposition
\t\t}
\t}
}
MOTION
Frames: 3
Frame Time: 0.05
1 2 3  0 0 0  90 0 0  0 0
1 2 3  90 0 0  0 0 0  90 7
1 2 3.5  0 90 0  0 0 90  -1.5e1 -.25
"""
LINES = TEXT.split("\n")
FIRST_FRAME = LINES.index("Frame Time: 0.05") + 2


def with_line(number: int, text: str) -> bytes:
    """The file with another text in a line, counted from 1."""
    return "\n".join([*LINES[: number - 1], text, *LINES[number:]]).encode()


def test_skeleton_channels_and_values() -> None:
    bvh = read_bvh(TEXT.encode())
    assert bvh.skeleton.joints == ("Hips", "Left Leg", "Spine", "Head")
    assert bvh.skeleton.parents == (-1, 0, 0, 2)
    np.testing.assert_array_equal(bvh.skeleton.offsets, [[0, 90, 0], [10, 0, 0], [0, 0, 0], [0, 50, 0]])
    assert bvh.skeleton.ends == (EndSite(1, (0, -40, 0)), EndSite(1, (0, -40, 5)))
    assert bvh.channels[1:] == (("Zrotation", "Xrotation", "Yrotation"), (), ("Yrotation", "Zposition"))
    assert bvh.frame_time == 0.05
    np.testing.assert_array_equal(bvh.values[2], [1, 2, 3.5, 0, 90, 0, 0, 0, 90, -15, -0.25])


def test_pose_computed_by_hand() -> None:
    """Positions replace offsets, also those of a single axis. A turn about z by 90 degrees takes x to y and y to -x."""
    bvh = read_bvh(TEXT.encode())
    pose = bvh.pose()
    np.testing.assert_allclose(pose.positions[0], [[1, 2, 3], [11, 2, 3], [1, 2, 3], [1, 52, 3]], atol=1e-12)
    np.testing.assert_allclose(pose.positions[1], [[1, 2, 3], [1, 12, 3], [1, 2, 3], [-49, 2, 10]], atol=1e-12)
    np.testing.assert_allclose(bvh.skeleton.end_positions(pose)[0], [[51, 2, 3], [51, 2, 8]], atol=1e-12)


@pytest.mark.parametrize(
    "text",
    [
        TEXT.replace("\n", "\r\n"),
        TEXT.replace("\n", " \r\n"),
        TEXT.replace("\t", ""),
        TEXT.replace(" ", "\t").replace("Left\tLeg", "Left Leg").replace("Frame\tTime", "Frame Time"),
        TEXT.replace("\n{", " {").replace("\n\t{", "{"),
        TEXT.replace("MOTION", "\nMOTION\n").rstrip("\n"),
        TEXT + "\n \n",
        TEXT.replace("Xposition", "xposition").replace("End Site", "END SITE").replace("ROOT", "Root"),
        "\ufeff" + TEXT,
    ],
    ids=["crlf", "trailing", "flat", "tabs", "braces", "blank", "blank-end", "case", "bom"],
)
def test_other_ways_to_write_the_same(text: str) -> None:
    expected, found = read_bvh(TEXT.encode()), read_bvh(text.encode())
    assert found.skeleton.joints == expected.skeleton.joints
    assert found.channels == expected.channels
    assert found.skeleton.ends == expected.skeleton.ends
    np.testing.assert_array_equal(found.values, expected.values)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (with_line(FIRST_FRAME + 1, "1 2 3 90 0 0 nan 0 0 0 7"), rf"line {FIRST_FRAME + 1}: value 7 is nan"),
        (with_line(FIRST_FRAME, "1 2 3 0 0 0 inf 0 0 0 0"), rf"line {FIRST_FRAME}: value 7 is inf"),
        (with_line(FIRST_FRAME, "1 2 3 0 0 x7 0 0 0 0 0"), rf"line {FIRST_FRAME}: value 6 is 'x7', not a number"),
        (with_line(FIRST_FRAME, "1 2 3 0 0 1.2.3 0 0 0 0 0"), "value 6 is '1.2.3', not a number"),
        (with_line(FIRST_FRAME, "1,5 2 3 0 0 0 0 0 0 0 0"), rf"line {FIRST_FRAME}: '1,5' has a comma as decimal"),
        (with_line(FIRST_FRAME, "1 2 3 0 0 0 0 0 0 0"), rf"line {FIRST_FRAME}: 10 values instead of 11$"),
        (with_line(FIRST_FRAME + 2, "1 2 3 0"), rf"line {FIRST_FRAME + 2}: 4 values instead of 11; it is truncated"),
        (TEXT.replace("1 2 3", "1 2").encode(), rf"line {FIRST_FRAME}: 10 values instead of 11$"),
        (TEXT.replace(" 0 0\n1 2 3  90", " 0 0 0\n1 2 3  90").encode(), "12 values instead of 11"),
        (with_line(FIRST_FRAME, ""), "says 3 frames but has 2"),
        (TEXT.replace("Frames: 3", "Frames: 2").encode(), "says 2 frames but has 3"),
        (TEXT.replace("Frames: 3", "Frames: many").encode(), "says many frames but has 3"),
        (TEXT[: TEXT.index("1 2 3")].encode(), "says 3 frames but has 0"),
        (TEXT[: TEXT.index("Frame Time")].encode(), "truncated: it has no MOTION"),
        (TEXT.replace("0.05", "0,05").encode(), "frame time is '0,05'"),
        (TEXT.replace("0.05", "0").encode(), "frame time is '0'"),
        (TEXT.replace("JOINT Head", "JOINT Hips").encode(), "line 23: the joint 'Hips' is listed twice"),
        (TEXT.replace("OFFSET 10.0", "OFFSET 10,0").encode(), "line 8: '10,0' has a comma as decimal sign"),
        (TEXT.replace("OFFSET 10.0", "OFFSET nan").encode(), "line 8: 'nan' is not a finite number"),
        (TEXT.replace("OFFSET 10.0 0.0 0.0", "").encode(), "line 18: the joint 'Left Leg' has no OFFSET"),
        (TEXT.replace("OFFSET 0.0 -40.0 0.0", "").encode(), "line 13: the end site of 'Left Leg' has no OFFSET"),
        (TEXT.replace("CHANNELS 3", "CHANNELS 2").encode(), "line 9: 'Yrotation' does not belong"),
        (TEXT.replace("CHANNELS 3", "CHANNELS 4").encode(), "line 9: 'Left Leg' has the channels '4 Zrotation .* End'"),
        (TEXT.replace("3 Zrotation X", "3 Zrotation Z").encode(), "line 9: 'Left Leg' has the channels"),
        (TEXT.replace("}\nMOTION", "MOTION").encode(), "truncated: its skeleton does not end"),
        (TEXT.replace("}\nMOTION", "}\nROOT Two\n{\n}\nMOTION").encode(), "line 30: 'Two' is a second root"),
        (b"\x89PNG\r\n", "not a BVH file"),
        (b"", "not a BVH file"),
    ],
)
def test_bad_files(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_bvh(content)


def clip(frames: int = 200) -> Bvh:
    """A motion of this skeleton that turns about every axis by more than a whole turn, and starts anywhere."""
    generator = np.random.default_rng(0)
    speed = generator.uniform(2, 5, 11) * generator.choice([-1, 1], 11)
    values = np.arange(frames)[:, None] * speed + generator.normal(0, 0.5, (frames, 11))
    bvh = read_bvh(TEXT.encode())
    return Bvh(bvh.skeleton, bvh.channels, 1 / 120, values)


def test_motion_is_exact_from_values_to_rotations_and_back_through_a_file(tmp_path: Path) -> None:
    bvh = clip()
    write_bvh(tmp_path / "a.bvh", bvh.with_motion(bvh.rotations(), bvh.translations()))
    found = read_bvh((tmp_path / "a.bvh").read_bytes())
    assert found.channels == bvh.channels
    assert found.skeleton.joints == bvh.skeleton.joints
    assert found.skeleton.ends == bvh.skeleton.ends
    assert found.frame_time == pytest.approx(1 / 120, rel=1e-9)
    assert rotation_angle(found.rotations(), bvh.rotations()).max() < 1e-5
    assert np.abs(found.pose().positions - bvh.pose().positions).max() < 1e-4
    # Speeds of at most 5 degrees per frame, with noise: angles neither jump by 360 degrees nor swap.
    assert np.abs(np.diff(found.values, axis=0)).max() < 10


def test_values_are_written_back_as_they_were(tmp_path: Path) -> None:
    bvh = clip(5)
    offsets = np.random.default_rng(0).uniform(-50, 50, bvh.skeleton.offsets.shape).round(6)
    bvh = replace(bvh, skeleton=replace(bvh.skeleton, offsets=offsets))
    write_bvh(tmp_path / "a.bvh", bvh)
    found = read_bvh((tmp_path / "a.bvh").read_bytes())
    np.testing.assert_allclose(found.values, bvh.values, atol=5.1e-7)
    np.testing.assert_array_equal(found.skeleton.offsets, bvh.skeleton.offsets)
    write_bvh(tmp_path / "b.bvh", found)
    assert (tmp_path / "a.bvh").read_text() == (tmp_path / "b.bvh").read_text()


def test_written_file_has_the_layout_of_the_first(tmp_path: Path) -> None:
    write_bvh(tmp_path / "a.bvh", read_bvh(TEXT.encode()))
    lines = (tmp_path / "a.bvh").read_text().split("\n")
    expected = [line.split() for line in LINES]
    found = [line.split() for line in lines]
    assert [words[0] for words in found[: FIRST_FRAME - 1]] == [words[0] for words in expected[: FIRST_FRAME - 1]]
    assert found[FIRST_FRAME - 1][:3] == ["1.000000", "2.000000", "3.000000"]
