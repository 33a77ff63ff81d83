"""Reading all files of a source: the skeleton or the columns that most of them share, and their features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from narrows.data.errors import DataError
from narrows.data.skipped import Skipped, listed
from narrows.modalities.motion.bvh import Bvh
from narrows.modalities.motion.columns import Column, infer_kinds, read_columns
from narrows.modalities.motion.features import TableLayout
from narrows.modalities.motion.formats import Format, read_bytes
from narrows.modalities.motion.series import SAME_CLOCK, TableFormat, TableReading, with_joints
from narrows.modalities.motion.settings import MotionSettings
from narrows.modalities.motion.skeletons import BvhFormat, BvhReading
from narrows.modalities.motion.tables import read_table
from narrows.modalities.motion.urdf import read_urdf
from narrows.progress import Progress

__all__ = ["read_all"]

COLUMNS = "columns.txt"
"""The file of a source that describes the columns of its tables."""

Read = tuple[Format | None, dict[str, np.ndarray], list[str]]


def read_all(
    settings: MotionSettings,
    root: Path,
    files: Sequence[str],
    form: Format | None,
    skipped: Skipped,
    progress: Progress,
) -> Read:
    """Read the files of a source.

    Args:
        settings: how files are read.
        root: the folder of the source.
        files: the files in it, all BVH files or all tables.
        form: the format of a model; None to find it.
        skipped: collects the files that cannot be read.
        progress: shows the progress.

    Returns:
        the format, None if no file can be read; the features of each file that has it, float32 [T, C]; and notes for
        the user.

    Raises:
        DataError: if a description of columns or a URDF file cannot be read, or the files are not of the model's kind.
    """
    is_bvh = files[0].lower().endswith(".bvh")
    if form is not None and is_bvh != isinstance(form, BvhFormat):
        kinds = ("tables", "BVH files") if is_bvh else ("BVH files", "tables")
        raise DataError(f"the model is of {kinds[0]}, but data.source {settings.source} has {kinds[1]}")
    read = _read_skeletons if is_bvh else _read_tables
    return read(settings, root, files, form, skipped, progress)


def _read_skeletons(
    settings: MotionSettings,
    root: Path,
    files: Sequence[str],
    form: Format | None,
    skipped: Skipped,
    progress: Progress,
) -> Read:
    known = form if isinstance(form, BvhFormat) else None
    reading = known.reading if known else BvhReading(settings.rate, settings.resample, settings.skip_frames)
    clips: dict[str, Bvh] = {}
    left_out: list[str] = []
    for file in _shown(files, progress):
        try:
            clips[file], count = reading.read(root / file)
        except DataError as error:
            skipped.add(str(root / file), str(error))
            continue
        if count and reading.skip_frames is None:
            left_out.append(f"{file}: {count} frames")
    if not clips:
        return None, {}, []
    known = known or BvhFormat.of_clips(list(clips.values()), settings.up or "y", settings.unit_cm or 1.0, reading)
    found = {}
    for file, clip in clips.items():
        try:
            found[file] = known.features(clip)
        except DataError as error:
            skipped.add(str(root / file), str(error))
    return known, found, listed("bind poses left out (data.skip_frames=0 keeps them)", left_out)


def _read_tables(
    settings: MotionSettings,
    root: Path,
    files: Sequence[str],
    form: Format | None,
    skipped: Skipped,
    progress: Progress,
) -> Read:
    found = {}
    if form is not None:
        for file in _shown(files, progress):
            try:
                found[file] = form.read(root / file)
            except DataError as error:
                skipped.add(str(root / file), str(error))
        return form, found, []
    columns, urdf = _described(settings, root), _urdf(settings)
    series: dict[str, _Series] = {}
    for file in _shown(files, progress):
        try:
            series[file] = _read_series(settings, root / file, columns, urdf)
        except DataError as error:
            skipped.add(str(root / file), str(error))
    if not series:
        return None, {}, []
    usual = _most_frequent(list(series.values()))
    layout = TableLayout(usual.columns, usual.rate, settings.up or "z")
    known = TableFormat(layout, settings.unit_cm or 100.0, usual.reading, urdf)
    for file, one in series.items():
        try:
            # Columns in another order are read again, by their names.
            alike = one.columns == usual.columns
            found[file] = known.features(one.values, one.rate) if alike else known.read(root / file)
        except DataError as error:
            skipped.add(str(root / file), str(error))
    return known, found, []


def _shown(files: Sequence[str], progress: Progress) -> Iterator[str]:
    with progress("reading motion", len(files), "files") as meter:
        for file in files:
            yield file
            meter.advance()


def _described(settings: MotionSettings, root: Path) -> list[Column] | None:
    """Return the columns that a file describes; None if there is no such file."""
    if settings.columns:
        return read_columns(Path(settings.columns).expanduser())
    return read_columns(root / COLUMNS) if (root / COLUMNS).is_file() else None


def _urdf(settings: MotionSettings) -> str:
    """Return the text of the robot's file, after checking it; "" if there is none."""
    if not settings.urdf:
        return ""
    path = Path(settings.urdf).expanduser()
    try:
        content = read_bytes(path)
        read_urdf(content)
        return content.decode("utf-8")
    except (DataError, UnicodeDecodeError) as error:
        raise DataError(f"data.urdf {settings.urdf}: {error}") from error


class _Series(NamedTuple):
    """A table that was read."""

    columns: list[Column]
    values: np.ndarray
    rate: float
    reading: TableReading


def _read_series(settings: MotionSettings, path: Path, columns: list[Column] | None, urdf: str) -> _Series:
    """Read a table with the columns that are described, or with all its columns."""
    table = read_table(path, None if columns is None else [column.name for column in columns])
    if columns is None:
        names = table.names or [str(index) for index in range(table.values.shape[1])]
        columns = infer_kinds([Column(name) for name in names])
    if urdf:
        columns = with_joints(columns, read_urdf(urdf.encode()))
    reading = TableReading(settings.rate, settings.resample, settings.skip_frames or 0, table.header)
    return _Series(columns, *reading.converted(path, table.values, columns), reading)


def _most_frequent(series: Sequence[_Series]) -> _Series:
    """Return the first table with the most frequent columns and, among these, the most frequent rate."""
    names = [frozenset(column.name for column in one.columns) for one in series]
    ((usual, _),) = Counter(names).most_common(1)
    same = [one for one, own in zip(series, names, strict=True) if own == usual]
    rates = np.array([one.rate for one in same])
    ends = [np.searchsorted(np.sort(rates), rates * (1 + share)) for share in (-SAME_CLOCK, SAME_CLOCK)]
    return same[int(np.argmax(ends[1] - ends[0]))]
