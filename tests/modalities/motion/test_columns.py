from pathlib import Path

import numpy as np
import pytest

from narrows.data import DataError
from narrows.modalities.motion.columns import (
    Column,
    find_group,
    find_quaternions,
    infer_kinds,
    read_columns,
    unit_quaternions,
)

ROBOT = ["root_x", "root_y", "root_z", "root_qx", "root_qy", "root_qz", "root_qw", "left_knee"]


def described(tmp_path: Path, text: str) -> list[Column]:
    (tmp_path / "columns.txt").write_text(text)
    return read_columns(tmp_path / "columns.txt")


def test_names_alone_tell_the_root(tmp_path: Path) -> None:
    columns = described(tmp_path, "\n".join(ROBOT))
    assert [column.name for column in columns] == ROBOT
    assert [column.kind for column in columns] == ["root position"] * 3 + ["root quaternion"] * 4 + ["value"]
    assert find_group(columns, "root quaternion", "wxyz") == [6, 3, 4, 5]
    assert find_group(columns, "time", "t") is None
    assert find_quaternions(columns) == []


def test_kinds_units_comments_and_any_order_of_a_quaternion(tmp_path: Path) -> None:
    text = "t, time, s\n# a comment\n\nleft wrist_w, quaternion\ncourse, wrapping angle, deg  # compass\n"
    text += "left wrist_z, quaternion\nleft wrist_x, quaternion\nleft wrist_y, quaternion\nforce, value, N"
    columns = described(tmp_path, text)
    assert columns[0] == ("t", "time", "s")
    assert columns[2] == ("course", "wrapping angle", "deg")
    assert find_quaternions(columns) == [[4, 5, 3, 1]]


def test_only_one_root_is_inferred() -> None:
    names = [f"{part}_{axis}" for part in ("base", "hand") for axis in ("x", "y", "z", "qx", "qy", "qz", "qw")]
    kinds = [column.kind for column in infer_kinds([Column(name) for name in names])]
    assert kinds == ["root position"] * 3 + ["root quaternion"] * 4 + ["value"] * 3 + ["quaternion"] * 4
    without = infer_kinds([Column(name) for name in ROBOT if name != "root_y"])
    assert [column.kind for column in without] == ["value"] * 2 + ["quaternion"] * 4 + ["value"]
    given = infer_kinds([Column("a_x", "root position"), *(Column(name) for name in ROBOT)])
    assert [column.kind for column in given[4:8]] == ["quaternion"] * 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\nb, angel", "line 2: 'angel' is not one of value, angle"),
        ("a, angle, degrees", "line 1: the unit of an angle is rad or deg, not 'degrees'"),
        ("a\n\na", "line 3: the column 'a' is listed twice"),
        ("a, value, m, 3", "line 1: 'a, value, m, 3' is not a name"),
        (", value", "line 1: ', value' is not a name"),
        ("# nothing", "describes no columns"),
        ("q_x, quaternion\nq_y, quaternion\nq_w, quaternion", "q_x, q_y, q_w are no quaternion: it needs 4 names"),
        ("x, root position\ny, root position", "x, y are no root position: it needs 3 names that end in x, y, z"),
        ("ax, root position\nbx, root position\ny, root position\nz, root position", "are no root position"),
    ],
)
def test_bad_descriptions(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        described(tmp_path, text)


def test_description_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_columns(tmp_path / "columns.txt")


def test_quaternions_are_normalised_and_counted() -> None:
    columns = infer_kinds([Column(name) for name in ROBOT])
    values = np.random.default_rng(0).normal(size=(5, 8))
    values[:, 3:7] /= np.linalg.norm(values[:, 3:7], axis=1, keepdims=True)
    scale = np.array([1, 1 + 1e-5, 2, 1, 0.5])
    scaled = values.copy()
    scaled[:, 3:7] *= scale[:, None]
    found, count = unit_quaternions(scaled, columns)
    assert count == 2
    np.testing.assert_allclose(found, values, atol=1e-12)
    scaled[3, 3:7] = 0
    with pytest.raises(DataError, match="row 4: the quaternion root_qx, root_qy, root_qz, root_qw is zero"):
        unit_quaternions(scaled, columns)
