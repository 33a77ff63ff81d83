"""MIDI files: read as notes, quantised to steps of time, and written again.

Files are parsed and written by symusic, which leaves out notes without an end; so ends are added before it parses them.
Tempo changes are followed.
"""

from __future__ import annotations

import struct
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from narrows.atomic import whole_file
from narrows.data.errors import DataError
from narrows.errors import NarrowsError

__all__ = ["Clock", "Notes", "Reading", "add_notes", "read_notes", "write_notes"]

TICKS = 48
"""Ticks of a step in the files written."""
PLAIN_VELOCITY = 80
"""Velocity of notes that have none of their own, in the files written."""
LONG = 2.0**40
"""More ticks than any file has."""
FAR = 2**28 - 1
"""The longest time between two events of a file, in ticks."""
END_OF_TRACK = b"\xff\x2f\x00"
EMPTY_TEXT = b"\xff\x01\x00"
ENDS = [bytes([0x80 | channel]) + b"\0".join(bytes([pitch, 0]) for pitch in range(128)) for channel in range(16)]
"""Events that end the notes of every pitch at once, for each channel."""
SECONDS_PER_BEAT = 0.5
"""Length of a beat in files written from steps of a beat."""
MISTAKES = {
    "ticks per quarter": "its times are SMPTE frames instead of beats; convert it with a MIDI editor",
    "not MThd": "it is not a MIDI file",
    "less than 14": "it is not a MIDI file: it is empty or very short",
    "Invalid chunk length": "it is truncated",
}


class Clock(NamedTuple):
    """How long a step is."""

    rate: float
    """Steps per second."""
    per_beat: int | None = None
    """Steps per beat; `rate` then has no meaning."""


class Notes(NamedTuple):
    """Notes in steps of time, in order of their start."""

    start: np.ndarray
    """The first step, int64 [N]."""
    end: np.ndarray
    """The step after the last one, int64 [N]; greater than `start`."""
    pitch: np.ndarray
    """0 to 127; 60 is middle C, int64 [N]."""
    velocity: np.ndarray
    """1 to 127, int64 [N]."""


class Reading(NamedTuple):
    """The notes of a file."""

    notes: Notes
    unended: int
    """The number of notes that the file gives no end. They last until the last note starts or ends; of several that
    sound at one pitch, only the first is read."""


def read_notes(
    content: bytes, clock: Clock, tracks: list[str] | None = None, drums: bool = False, max_minutes: float = 60.0
) -> Reading:
    """Read the notes of a MIDI file; the tracks are merged.

    A note starts at the nearest step, and lasts at least one step.

    Args:
        content: the file.
        clock: how long a step is.
        tracks: names of the tracks to read; None or [] for all.
        drums: also read drum tracks.
        max_minutes: refuse files that last longer.

    Raises:
        DataError: if it is no MIDI file, is damaged, lasts too long, or has no such notes.
    """
    score = _score(_ended(content, FAR))
    if tracks:
        names = [track.name for track in score.tracks]
        if missing := [name for name in tracks if name not in names]:
            raise DataError(f"it has no track {missing[0]!r}, only {', '.join(map(repr, names)) or 'none'}")
    kept = [t for t in score.tracks if (drums or not t.is_drum) and (not tracks or t.name in tracks) and len(t.notes)]
    if not kept:
        only_drums = score.note_num() and not tracks
        raise DataError(
            "it has only drums, which models trained with data.drums=true read" if only_drums else "it has no notes"
        )
    parts = [track.notes.numpy() for track in kept]
    columns = {name: np.concatenate([part[name] for part in parts], dtype=np.int64) for name in parts[0]}
    ticks = np.stack([columns["time"], columns["time"] + columns["duration"]])
    if (unended := columns["duration"] >= FAR).any():
        ticks[1, unended] = max(ticks[0].max(), ticks[1, ~unended].max(initial=0))
    times, begin = _tempos(score)
    seconds = np.interp(ticks, times, begin)
    if (minutes := seconds.max() / 60) > max_minutes:
        raise DataError(f"it lasts {minutes:,.0f} minutes, more than {max_minutes:g}: cut it, or set data.max_minutes")
    beats = ticks / score.ticks_per_quarter
    places = seconds * clock.rate if clock.per_beat is None else beats * clock.per_beat
    steps = np.floor(places + 0.5).astype(np.int64)  # rounding halves to even numbers would merge notes
    order = np.argsort(128 * steps[0] + columns["pitch"], kind="stable")
    notes = Notes(steps[0], np.maximum(steps[1], steps[0] + 1), columns["pitch"], columns["velocity"].clip(1, 127))
    return Reading(Notes(*(part[order] for part in notes)), int(unended.sum()))


def add_notes(content: bytes, notes: Notes, clock: Clock) -> bytes:
    """Return a MIDI file with a further track of notes, at the tempos that the file has.

    Args:
        content: the file.
        notes: the notes to add.
        clock: how long their steps are.

    Raises:
        DataError: if it is no MIDI file, or is damaged.
    """
    score, library = _score(_ended(content, 1)), _symusic()
    steps = np.stack([notes.start, notes.end])
    if clock.per_beat is None:
        times, begin = _tempos(score)
        ticks = np.interp(steps / clock.rate, begin, times)
    else:
        ticks = steps / clock.per_beat * score.ticks_per_quarter
    first, last = np.rint(ticks).astype(np.int64).tolist()
    track = library.Track("Added", program=0, is_drum=False)
    for start, end, pitch, velocity in zip(first, last, notes.pitch.tolist(), notes.velocity.tolist(), strict=True):
        track.notes.append(library.Note(start, max(1, end - start), pitch, velocity))
    score.tracks.append(track)
    return score.dumps_midi()


def _ended(content: bytes, after: int) -> bytes:
    """Return a MIDI file in which notes without an end stop `after` ticks after the end of their track.

    Tracks that do not end as they should are left as they are, for the parser to refuse.
    """
    if len(content) < 14:
        return content
    begin = 8 + int.from_bytes(content[4:8], "big")
    parts = [content[:begin]]
    while begin < len(content):
        end = begin + 8 + int.from_bytes(content[begin + 4 : begin + 8], "big")
        chunk = content[begin:end]
        if chunk.startswith(b"MTrk") and chunk.endswith(END_OF_TRACK) and end <= len(content):
            # A text stands where the track ended, which has a time before it.
            events = chunk[8:-3] + EMPTY_TEXT + _ends(chunk, after) + b"\0" + END_OF_TRACK
            chunk = b"MTrk" + struct.pack(">I", len(events)) + events
        parts.append(chunk)
        begin = end
    return b"".join(parts)


def _ends(track: bytes, after: int) -> bytes:
    """Return events that end all notes of a track's channels, `after` ticks after its last event."""
    used = [ends for channel, ends in enumerate(ENDS) if bytes([0x90 | channel]) in track]
    wait = bytes([0x80 | after >> 21, 0x80 | after >> 14 & 0x7F, 0x80 | after >> 7 & 0x7F, after & 0x7F])
    return wait + b"\0".join(used) if used else b""


def _score(content: bytes) -> Any:
    """Return the content of a MIDI file as symusic has it."""
    try:
        score = _symusic().Score.from_midi(content, sanitize_data=True)
    except Exception as error:  # a damaged file can make the parser raise anything
        reason = next((words for part, words in MISTAKES.items() if part in str(error)), f"it is damaged: {error}")
        raise DataError(reason) from error
    if score.ticks_per_quarter < 1:
        raise DataError("it is damaged: a beat has no ticks")
    if (score.tempos.numpy()["mspq"] < 1).any():
        raise DataError("it is damaged: a beat has no length")
    return score


def _tempos(score: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return when the tempo changes, in ticks and in seconds, and a time long after the end, float64 each.

    Time is linear in between. A beat is a quarter note, of 0.5 s until a tempo is given.
    """
    tempos = score.tempos.numpy()
    times, seconds = tempos["time"].astype(np.float64), tempos["mspq"].astype(np.float64) / 1e6
    if not len(times) or times[0] > 0:
        times, seconds = np.concatenate([[0.0], times]), np.concatenate([[SECONDS_PER_BEAT], seconds])
    times = np.concatenate([times, [times[-1] + LONG]])
    begin = np.zeros(len(times))
    np.cumsum((times[1:] - times[:-1]) * seconds, out=begin[1:])
    return times, begin / score.ticks_per_quarter


def write_notes(path: Path, notes: Notes, clock: Clock) -> None:
    """Write notes as a piano to a MIDI file, from which `read_notes` returns the same notes."""
    library = _symusic()
    per_beat = clock.per_beat or max(1, round(clock.rate * SECONDS_PER_BEAT))
    seconds = SECONDS_PER_BEAT if clock.per_beat else per_beat / clock.rate
    score = library.Score(per_beat * TICKS)
    score.tempos.append(library.Tempo(0, mspq=round(seconds * 1e6)))
    track = library.Track("Piano", program=0, is_drum=False)
    for start, end, pitch, velocity in zip(*(part.tolist() for part in notes), strict=True):
        track.notes.append(library.Note(start * TICKS, (end - start) * TICKS, pitch, velocity))
    score.tracks.append(track)
    with whole_file(path) as aside:
        aside.write_bytes(score.dumps_midi())


def _symusic() -> ModuleType:
    try:
        import symusic
    except ImportError as error:
        raise NarrowsError(f"music needs the package symusic ({error}): pip install 'narrows[music]'") from error
    return symusic
