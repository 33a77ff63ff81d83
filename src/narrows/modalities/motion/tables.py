"""Time series as tables: CSV with or without a header, gzipped or not, npz and Parquet. pyarrow parses them."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from narrows.atomic import whole_file
from narrows.data.errors import DataError

__all__ = ["SUFFIXES", "Table", "read_table", "write_table"]

SUFFIXES = (".csv", ".csv.gz", ".npz", ".parquet")
"""How the names of tables end."""
COMMA = "has a comma as decimal sign; replace it by a point"


@dataclass(frozen=True, eq=False)
class Table:
    """A table of numbers.

    Args:
        names: the C names of the columns; empty if the file has none.
        values: float64 [T, C].
        header: whether the names are in the file, and not those that `read_table` was given.
    """

    names: tuple[str, ...]
    values: np.ndarray
    header: bool = True


def read_table(path: Path, names: Sequence[str] | None = None) -> Table:
    """Read a table of numbers.

    An array [T, K] of a npz file and a column of lists of length K in a Parquet file become the columns `name_0` to
    `name_K-1`.

    Args:
        path: a file with one of `SUFFIXES`.
        names: the columns to read, in this order; None reads all. If the file has no names, it must have as many
            columns, which get these names.

    Raises:
        DataError: naming the line, row or column, if the file cannot be read, lacks a column, has rows of different
            length, or a value that is not a finite number.
    """
    suffix = _suffix(path)
    read: dict[str, Callable[[Path, Sequence[str] | None], Table]] = {
        ".csv": _read_csv,
        ".npz": _read_npz,
        ".parquet": _read_parquet,
    }
    try:
        table = read[suffix.removesuffix(".gz")](path, names)
    except DataError:
        raise
    except Exception as error:  # a damaged file can make a parser raise anything
        raise DataError(f"it cannot be read: {error}") from error
    if not len(table.values):
        raise DataError("it has no rows")
    if not np.isfinite(table.values).all():
        row, column = (int(part[0]) for part in np.nonzero(~np.isfinite(table.values)))
        raise DataError(
            f"row {row + 1}, {_title(table.names, column)}: the value is empty or {table.values[row, column]}"
        )
    return table


def _suffix(path: Path) -> str:
    found = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)
    if found is None:
        raise DataError(f"{path.name} is not a table: known are {', '.join(SUFFIXES)}")
    return found


def _title(names: Sequence[str], column: int) -> str:
    return f"column {names[column]!r}" if names else f"column {column + 1}"


def _read_csv(path: Path, names: Sequence[str] | None) -> Table:
    with pa.input_stream(str(path)) as stream:  # decompresses by the name
        content = stream.read().removeprefix(b"\xef\xbb\xbf")
    first = re.split(rb"[\r\n]", content, maxsplit=1)[0].decode("utf-8", "replace").strip()
    delimiter = next((mark for mark in ";\t" if mark in first), ",")
    header = next(csv.reader([first.lstrip("# ")], delimiter=delimiter), [])
    if not header:
        raise DataError("it has no rows")
    if wrong := next(filter(_has_comma, header), None):
        raise DataError(f"line 1: {wrong!r} {COMMA}")
    numbered = [str(column) for column in range(len(header))]
    # Other programs name columns without names 0, 1, 2, ...; fewer of them may be values.
    has_header = _has_names(header) or (header == numbered and len(header) > 3)
    found = tuple(name.strip() for name in header) if has_header else ()
    which = _which(found, len(header), names)
    try:
        table = pa.csv.read_csv(
            pa.BufferReader(content),
            pa.csv.ReadOptions(column_names=numbered, skip_rows=int(has_header)),
            pa.csv.ParseOptions(delimiter=delimiter),
            pa.csv.ConvertOptions(
                column_types=dict.fromkeys(numbered, pa.float64()), include_columns=[str(column) for column in which]
            ),
        )
    except pa.ArrowInvalid as error:
        raise DataError(_mistake(content, delimiter, found, len(header), which) or str(error)) from None
    return Table(_names(found, names), _stacked(column.to_numpy() for column in table.columns), has_header)


def _has_names(first: Sequence[str]) -> bool:
    """Return whether the first line of a file has the names of the columns.

    Raises:
        DataError: if it has both names and numbers, which are not consecutive integers.
    """
    names = [text for text in first if not _is_number(text)]
    numbers = [text.strip() for text in first if _is_number(text)]
    if names and numbers:
        begin = int(numbers[0]) if numbers[0].isdecimal() else 0
        if numbers != [str(begin + index) for index in range(len(numbers))]:
            raise DataError(
                f"line 1 has both {names[0].strip()!r} and {numbers[0]!r}: it must be names only or numbers only"
            )
    return bool(names)


def _has_comma(text: str) -> bool:
    return _is_number(text.replace(",", ".", 1)) and not _is_number(text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _mistake(content: bytes, delimiter: str, header: Sequence[str], count: int, which: Sequence[int]) -> str | None:
    """Return what is wrong with the first line of a CSV file that cannot be read."""
    rows = csv.reader(io.StringIO(content.decode("utf-8", "replace"), newline=None), delimiter=delimiter)
    if header:
        next(rows)
    for row in rows:
        if row and len(row) != count:
            return f"line {rows.line_num}: {len(row)} values instead of {count}"
        for column in which if row else ():
            if row[column].strip() and not _is_number(row[column]):
                reason = COMMA if _has_comma(row[column]) else "is not a number"
                return f"line {rows.line_num}, {_title(header, column)}: {row[column]!r} {reason}"
    return None


def _which(found: Sequence[str], count: int, names: Sequence[str] | None) -> Sequence[int]:
    """Return the indices of the columns with these names among those found."""
    if names is None:
        return range(count)
    if not found:
        if len(names) != count:
            raise DataError(f"it has {count} columns, but {len(names)} are described: {_listed(names)}")
        return range(count)
    if missing := [name for name in names if name not in found]:
        raise DataError(f"it has no column {missing[0]!r}, only {_listed(found)}")
    if repeated := [name for name in names if list(found).count(name) > 1]:
        raise DataError(f"it has the column {repeated[0]!r} twice")
    return [found.index(name) for name in names]


def _names(found: tuple[str, ...], names: Sequence[str] | None) -> tuple[str, ...]:
    return found if names is None else tuple(names)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _stacked(columns: Iterable[np.ndarray]) -> np.ndarray:
    return np.stack(list(columns), axis=1).astype(np.float64, copy=False)


def _read_npz(path: Path, names: Sequence[str] | None) -> Table:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        parts = {name: arrays[name] for name in arrays.files}
    if len(parts) == 1 and (only := next(iter(parts.values()))).ndim == 2 and _has_numbers(only):
        _which((), only.shape[1], names)
        return Table(_names((), names), only.astype(np.float64), header=False)
    return _joined(parts, names)


def _has_numbers(array: np.ndarray) -> bool:
    return array.dtype.kind in "biuf"


def _read_parquet(path: Path, names: Sequence[str] | None) -> Table:
    table = pa.parquet.read_table(path, page_checksum_verification=True)
    parts = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind, whole = column.type, column.combine_chunks()
        if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
            flat = whole.flatten().to_numpy(zero_copy_only=False)
            if len(whole) and (len(flat) % len(whole) or len(set(whole.value_lengths().to_pylist())) > 1):
                raise DataError(f"column {name!r} has lists of different length")
            parts[name] = flat.reshape(len(whole), -1)
        else:
            parts[name] = whole.to_numpy(zero_copy_only=False)
    return _joined(parts, names)


def _joined(parts: Mapping[str, np.ndarray], names: Sequence[str] | None) -> Table:
    """Return the columns of arrays [T] or [T, K]."""
    columns: dict[str, np.ndarray] = {}
    for name, part in parts.items():
        many = {f"{name}_{index}": part[:, index] for index in range(part.shape[1])} if part.ndim == 2 else {}
        columns |= many or {name: part}
    found = tuple(columns)
    chosen = [columns[found[index]] for index in _which(found, len(found), names)]
    titles = _names(found, names)
    for title, column in zip(titles, chosen, strict=True):
        if column.ndim != 1 or not _has_numbers(column):
            raise DataError(f"column {title!r} is {column.dtype} of shape {column.shape}, not a number per row")
        if len(column) != len(chosen[0]):
            raise DataError(f"column {title!r} has {len(column)} rows, but {titles[0]!r} has {len(chosen[0])}")
    return Table(titles, _stacked(chosen) if chosen else np.zeros((0, 0)))


def write_table(path: Path, table: Table) -> None:
    """Write a table in the format of the file's suffix, from which `read_table` returns the same.

    Raises:
        DataError: if the suffix is unknown.
    """
    suffix = _suffix(path)
    titles = [*table.names] or [str(column) for column in range(table.values.shape[1])]
    with whole_file(path) as aside:
        if suffix == ".npz":
            named = dict(zip(table.names, table.values.T, strict=True)) if table.names else {"values": table.values}
            # numpy's own function has an argument `file`, which no array can then be called.
            with zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, values in named.items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                        np.lib.format.write_array(file, values)
            return
        columns = pa.table([*table.values.T], names=titles)
        if suffix == ".parquet":
            pa.parquet.write_table(columns, aside, write_page_checksum=True)
            return
        with pa.output_stream(str(aside), compression="gzip" if suffix == ".csv.gz" else None) as stream:
            pa.csv.write_csv(columns, stream, pa.csv.WriteOptions(include_header=bool(table.names)))
