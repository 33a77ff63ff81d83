"""The columns of a time series: names, kinds and units, and which of them belong together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from narrows.data.errors import DataError

__all__ = ["KINDS", "Column", "find_group", "find_quaternions", "infer_kinds", "read_columns", "unit_quaternions"]

KINDS = ("value", "angle", "wrapping angle", "quaternion", "root position", "root quaternion", "time")
"""What the values of a column are. An angle without limits, such as a compass course, wraps at a whole turn."""
UNITS = {"": 1.0, "rad": 1.0, "deg": np.pi / 180}
"""Radians in each unit of angles."""
NORMALISED = 1e-3
"""Quaternions whose length differs from 1 by more are counted; files with few decimals differ by less."""


class Column(NamedTuple):
    """A column of a time series."""

    name: str
    kind: str = "value"
    """One of `KINDS`."""
    unit: str = ""
    """Such as m or rad; angles are rad (the default) or deg."""


def read_columns(path: Path) -> list[Column]:
    """Read a description of columns: a line for each, with a name, or `name, kind` or `name, kind, unit`.

    Text after # is a comment. Kinds that are not given are inferred from the names; see `infer_kinds`.

    Raises:
        DataError: naming the line, if a kind or the unit of an angle is unknown, or a name is listed twice.
    """
    columns: list[Column] = []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        parts = [part.strip() for part in line.partition("#")[0].split(",")]
        if parts == [""]:
            continue
        where = f"{path}, line {number}"
        if len(parts) > 3 or not parts[0]:
            raise DataError(f"{where}: {line.strip()!r} is not a name, or a name, a kind and a unit")
        column = Column(*parts)
        if column.kind not in KINDS:
            raise DataError(f"{where}: {column.kind!r} is not one of {', '.join(KINDS)}")
        if "angle" in column.kind and column.unit not in UNITS:
            raise DataError(f"{where}: the unit of an angle is rad or deg, not {column.unit!r}")
        if column.name in (one.name for one in columns):
            raise DataError(f"{where}: the column {column.name!r} is listed twice")
        columns.append(column)
    if not columns:
        raise DataError(f"{path} describes no columns")
    columns = infer_kinds(columns)
    for kind, letters in (("root position", "xyz"), ("root quaternion", "xyzw")):
        find_group(columns, kind, letters)
    find_quaternions(columns)
    return columns


def infer_kinds(columns: Sequence[Column]) -> list[Column]:
    """Return the columns with the kinds inferred from their names, for those of kind `value`.

    `base_qx`, `base_qy`, `base_qz` and `base_qw` are a quaternion. If there are `base_x`, `base_y` and `base_z`, too,
    they are position and rotation of the root.
    """
    plain = {column.name: index for index, column in enumerate(columns) if column.kind == "value"}
    has_root = any(column.kind.startswith("root") for column in columns)
    found = list(columns)
    for name in plain:
        prefix = name[:-2]
        quaternion, position = ([prefix + part + axis for axis in "xyz"] for part in ("q", ""))
        quaternion.append(f"{prefix}qw")
        if name != quaternion[0] or not plain.keys() >= set(quaternion):
            continue
        is_root = not has_root and plain.keys() >= set(position)
        has_root |= is_root
        kinds = dict.fromkeys(quaternion, "root quaternion" if is_root else "quaternion")
        kinds |= dict.fromkeys(position if is_root else [], "root position")
        for column, kind in kinds.items():
            found[plain[column]] = found[plain[column]]._replace(kind=kind)
    return found


def find_group(columns: Sequence[Column], kind: str, letters: str) -> list[int] | None:
    """Return the indices of the columns of a kind by the last letters of their names; None if there are none.

    Args:
        columns: all columns.
        kind: the kind, such as `root position`.
        letters: the last letters in the order wanted, such as "xyz".

    Raises:
        DataError: if the columns of the kind are not one of each letter.
    """
    found = {column.name: index for index, column in enumerate(columns) if column.kind == kind}
    if not found:
        return None
    by_letter = {name[-1].lower(): index for name, index in found.items()}
    if len(by_letter) < len(found) or sorted(by_letter) != sorted(letters):
        raise DataError(
            f"the columns {', '.join(found)} are no {kind}: it needs {len(letters)} names that end in "
            f"{', '.join(letters)}"
        )
    return [by_letter[letter] for letter in letters]


def find_quaternions(columns: Sequence[Column]) -> list[list[int]]:
    """Return the indices (x, y, z, w) of each quaternion that is not the root's, in the order of their first columns.

    Raises:
        DataError: if one is not complete.
    """
    prefixes = dict.fromkeys(column.name[:-1] for column in columns if column.kind == "quaternion")
    groups = []
    for prefix in prefixes:
        part = [column if column.name[:-1] == prefix else Column("") for column in columns]
        groups.append(find_group(part, "quaternion", "xyzw") or [])
    return groups


def unit_quaternions(values: np.ndarray, columns: Sequence[Column]) -> tuple[np.ndarray, int]:
    """Return the values of a time series with quaternions of unit length, and the number of those that were not.

    Args:
        values: float64 [T, C].
        columns: their description.

    Raises:
        DataError: naming the row, if a quaternion is zero.
    """
    root = find_group(columns, "root quaternion", "xyzw")
    found, count = values.copy(), 0
    for group in [*([root] if root else []), *find_quaternions(columns)]:
        length = np.linalg.norm(values[:, group], axis=1)
        if len(zero := np.flatnonzero(length < NORMALISED)):
            names = ", ".join(columns[index].name for index in group)
            raise DataError(f"row {zero[0] + 1}: the quaternion {names} is zero, which is no rotation")
        count += int((np.abs(length - 1) > NORMALISED).sum())
        found[:, group] /= length[:, None]
    return found, count
