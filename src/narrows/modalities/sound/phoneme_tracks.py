"""Phoneme tracks of sound files: which phoneme is spoken when, and the phoneme of each code's samples.

A track has rows of `start_s` (seconds) and `phoneme`. Each phoneme lasts until the next one starts; the time before
the first is silence. Names are used unchanged, including stress marks and digits.
"""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

import numpy as np
from torch import Tensor

from narrows.data.errors import DataError
from narrows.data.walk import walk

__all__ = ["SILENCE", "PhonemeTrack", "PhonemeTracks", "read_phonemes"]

SILENCE = "_"
"""The name of silence, which is phoneme 0."""

logger = logging.getLogger(__name__)

Stem = tuple[str, ...]
Rows = list[tuple[float, str]]


@dataclass(frozen=True, eq=False)
class PhonemeTrack:
    """The phonemes of a clip.

    Args:
        starts: start times in seconds from the beginning of the clip, never decreasing, float64 [n].
        phonemes: indices into `PhonemeTracks.phonemes`, int64 [n].
    """

    starts: np.ndarray
    phonemes: np.ndarray

    def at(self, times: np.ndarray | Tensor) -> np.ndarray:
        """Return the phoneme at each of `times` (seconds, [*]), int64 [*]; the last of several that start together."""
        places = np.searchsorted(self.starts, np.asarray(times), side="right")
        return np.concatenate([[0], self.phonemes])[places]

    def frames(self, count: int, hop: int, sample_rate: int) -> np.ndarray:
        """Return the phoneme at the centre of each of `count` frames of `hop` samples at `sample_rate` Hz, [count]."""
        return self.at((np.arange(count) + 0.5) * hop / sample_rate)


@dataclass(frozen=True, eq=False)
class PhonemeTracks:
    """The phoneme tracks of clips.

    Args:
        phonemes: the names of phonemes 0, 1, ...: silence, then all that occur in these tracks, sorted.
        tracks: the track of each clip; None for a clip without one.
        missing: the names of the clips without a track.
    """

    phonemes: list[str]
    tracks: list[PhonemeTrack | None]
    missing: list[str]


def read_phonemes(table: str | Path, names: Sequence[str]) -> PhonemeTracks:
    """Read the phoneme tracks of sound files; call once for all splits, so that they share phoneme numbers.

    A track belongs to the sound file whose path ends in the track's path, ignoring both extensions: en/000.tsv belongs
    to /speech/en/000.flac and not to /speech/fr/000.flac. If several tracks match, the one with the longest path is
    used.

    Args:
        table: a folder that mirrors the sound folder, with a table per sound file of the columns `start_s` and
            `phoneme`; or a single table with an additional column `file`, relative to the sound folder. Tables are .csv
            or .tsv; in .tsv, quotes are ordinary characters. Other files in the folder are ignored.
        names: the sound files, as in `Clips.names`.

    Raises:
        DataError: if a table cannot be read, lacks a column or a value, or has a start that is not a time or decreases;
            if a file has two tracks, or a track two files; or if no file has a track. If only some files have none, a
            warning is logged instead.
    """
    table = Path(table).expanduser()
    if table.is_dir():
        found = _matched(table, names, [file for file in walk(table) if file.lower().endswith((".tsv", ".csv"))])
        read = {file: _read(table / file, by_file=False)[""] for file in found.values()}
    else:
        read = _read(table, by_file=True)
        found = _matched(table, names, read)
    missing = [name for name in names if name not in found]
    if names and not found:
        raise DataError(
            f"{table} has phoneme tracks for none of the {len(names)} sound files, such as {names[0]}: give a folder "
            "that mirrors theirs (en/000.tsv for en/000.flac), or a table whose column `file` is relative to theirs"
        )
    if missing:
        more = ", ..." if len(missing) > 10 else ""
        logger.warning(
            "%s: %d of %d clips have no phoneme track and are left out: %s",
            *(table, len(missing), len(names), ", ".join(missing[:10]) + more),
        )
    used = {phoneme for file in found.values() for _, phoneme in read[file]}
    phonemes = [SILENCE, *sorted(used - {SILENCE})]
    numbers = {phoneme: number for number, phoneme in enumerate(phonemes)}
    tracks = {name: _track(read[file], numbers) for name, file in found.items()}
    return PhonemeTracks(phonemes, [tracks.get(name) for name in names], missing)


def _track(rows: Rows, numbers: Mapping[str, int]) -> PhonemeTrack:
    starts, phonemes = zip(*rows, strict=True)
    return PhonemeTrack(np.array(starts), np.array([numbers[phoneme] for phoneme in phonemes]))


def _matched(table: Path, names: Sequence[str], files: Iterable[str]) -> dict[str, str]:
    """Return the track among `files` of each name that has one."""
    by_stem: dict[Stem, list[str]] = {}
    for file in files:
        by_stem.setdefault(_stem(PurePosixPath(file)), []).append(file)
    found: dict[str, str] = {}
    owners: dict[str, str] = {}
    for name in names:
        stem = _stem(Path(name).absolute())
        longest = next((by_stem[stem[start:]] for start in range(len(stem)) if stem[start:] in by_stem), [])
        if len(longest) > 1:
            raise DataError(f"{table}: {longest[0]} and {longest[1]} are both the phoneme track of {name}; keep one")
        for file in longest:
            if (owner := owners.setdefault(file, name)) != name:
                raise DataError(
                    f"{table}: {file} is the phoneme track of both {owner} and {name}: arrange the tracks in the same "
                    "folders as the sound"
                )
            found[name] = file
    return found


def _stem(path: PurePath) -> Stem:
    return *path.parent.parts, path.stem


def _read(path: Path, by_file: bool) -> dict[str, Rows]:
    """Return the tracks of a table by `file`, or its only track under the name ""."""
    tracks: dict[str, Rows] = {}
    for place, row in _rows(path, ["file"] * by_file + ["start_s", "phoneme"]):
        file = PurePosixPath(row["file"].replace("\\", "/")).as_posix() if by_file else ""
        track = tracks.setdefault(file, [])
        earliest = track[-1][0] if track else 0.0
        try:
            start = float(row["start_s"])
        except ValueError:
            start = math.nan
        if not earliest <= start < math.inf:
            raise DataError(
                f"{place}: start_s is {row['start_s']!r} after {earliest:g}: starts are numbers of seconds, 0 or more, "
                "that never decrease"
            )
        track.append((start, row["phoneme"]))
    if not tracks:
        raise DataError(f"{path} has no phonemes: add rows, or delete the file if its clip has no track")
    return tracks


def _rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the rows of a table with its file and line for messages; require these columns and a value in each."""
    listed = f"the columns {', '.join(f'`{column}`' for column in columns)}"
    tabs = path.suffix.lower() == ".tsv"
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            rows = csv.DictReader(
                lines,
                delimiter="\t" if tabs else ",",
                # Fields between tabs need no quotes, and X-SAMPA uses a quote for stress.
                quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL,
                strict=True,
            )
            if not set(columns) <= set(rows.fieldnames or ()):
                known = ", ".join(rows.fieldnames or ())
                raise DataError(f"{path}, line 1: a table of phonemes needs {listed}; this one has {known or 'none'}")
            for row in rows:
                place = f"{path}, line {rows.line_num}"
                if not all(row[column] for column in columns):
                    raise DataError(f"{place}: the row lacks a value in one of {listed}")
                yield place, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path} cannot be read ({error}); give a folder of .tsv or .csv tables that mirrors the sound folder, or "
            "one such table"
        ) from error
