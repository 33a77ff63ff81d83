"""Which phoneme sounds when: the phoneme tracks of sound files, and the phoneme of every code's stretch of samples.

A track is rows of `start_s` (seconds) and `phoneme`: each phoneme lasts till the next starts, and before the first it
is silent. Names are taken as they are, with their stress marks and digits.
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
"""The name of silence, the first of all phonemes."""

logger = logging.getLogger(__name__)

Stem = tuple[str, ...]
Rows = list[tuple[float, str]]


@dataclass(frozen=True, eq=False)
class PhonemeTrack:
    """The phonemes of a clip.

    Args:
        starts: seconds from the beginning of the clip, never falling, float64 [n].
        phonemes: positions in `PhonemeTracks.phonemes`, int64 [n].
    """

    starts: np.ndarray
    phonemes: np.ndarray

    def at(self, times: np.ndarray | Tensor) -> np.ndarray:
        """The phoneme at each of `times`, seconds [*]: int64 [*]; of phonemes that start together, the last."""
        places = np.searchsorted(self.starts, np.asarray(times), side="right")
        return np.concatenate([[0], self.phonemes])[places]

    def frames(self, count: int, hop: int, sample_rate: int) -> np.ndarray:
        """The phoneme at the centre of each of `count` frames of `hop` samples, `sample_rate` a second: [count]."""
        return self.at((np.arange(count) + 0.5) * hop / sample_rate)


@dataclass(frozen=True, eq=False)
class PhonemeTracks:
    """The phoneme tracks of clips.

    Args:
        phonemes: the names of phonemes 0, 1, ...: silence, then all that occur in these tracks, sorted.
        tracks: the track of each clip; None for a clip without.
        missing: the names of the clips without.
    """

    phonemes: list[str]
    tracks: list[PhonemeTrack | None]
    missing: list[str]


def read_phonemes(table: str | Path, names: Sequence[str]) -> PhonemeTracks:
    """Read the phoneme tracks of sound files; one call for all splits, so that they share the numbers of phonemes.

    A file has the track whose own path, but for its ending, is the tail of the file's: en/000.tsv is that of
    /speech/en/000.flac and not of /speech/fr/000.flac. Of several such tracks the one of the longest path counts.

    Args:
        table: a folder that mirrors the sound's, with a table of the columns `start_s` and `phoneme` by the name of
            every sound file; or one table with a column `file` besides, relative to the sound's folder. Tables are
            .tsv, in which a quote is a character like any other, or .csv. What else is in the folder is left alone.
        names: the sound files, as in `Clips.names`.

    Raises:
        DataError: if a table cannot be read, lacks a column or a value, or has a start that is no time or falls; if a
            file has two tracks, or a track two files; or if no file has a track. Where only some have none, a warning
            is logged.
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
            f"{table} has a phoneme track of none of the {len(names)} sound files, such as {names[0]}: give the folder "
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
    """The one of the tracks `files` that belongs to each name that has one."""
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
                    f"{table}: {file} is the phoneme track of both {owner} and {name}: lay the tracks out in the "
                    "folders of the sound"
                )
            found[name] = file
    return found


def _stem(path: PurePath) -> Stem:
    return *path.parent.parts, path.stem


def _read(path: Path, by_file: bool) -> dict[str, Rows]:
    """The tracks of a table by their `file`, or the only one, by no name."""
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
                "that never fall"
            )
        track.append((start, row["phoneme"]))
    if not tracks:
        raise DataError(f"{path} has no phoneme: give it rows, or take it away if the clip has no track")
    return tracks


def _rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a table that has these columns and a value in each, with the place of each for messages."""
    listed = f"the columns {', '.join(f'`{column}`' for column in columns)}"
    tabs = path.suffix.lower() == ".tsv"
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            rows = csv.DictReader(
                lines,
                delimiter="\t" if tabs else ",",
                # Fields between tabs need no quotes, and X-SAMPA has a quote for stress.
                quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL,
                strict=True,
            )
            if not set(columns) <= set(rows.fieldnames or ()):
                known = ", ".join(rows.fieldnames or ())
                raise DataError(f"{path}, line 1: a table of phonemes has {listed}, and this one {known or 'none'}")
            for row in rows:
                place = f"{path}, line {rows.line_num}"
                if not all(row[column] for column in columns):
                    raise DataError(f"{place}: the row lacks a value in one of {listed}")
                yield place, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path} cannot be read ({error}); phonemes are a folder of .tsv or .csv tables like the sound's folder, "
            "or one such table"
        ) from error
