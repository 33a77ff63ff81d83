import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from narrows.data import DataError
from narrows.modalities.music.midi import Clock, Notes, add_notes, read_notes, write_notes
from narrows.modalities.music.roll import RollLayout

HERTZ20 = Clock(20.0)
END = b"\x00\xff\x2f\x00"


def midi(*tracks: bytes, division: int = 480) -> bytes:
    """A MIDI file of the events of each track."""
    chunks = [b"MTrk" + struct.pack(">I", len(events + END)) + events + END for events in tracks]
    return b"MThd" + struct.pack(">IHHH", 6, 1, len(tracks), division) + b"".join(chunks)


def note(wait: int, length: int, pitch: int, velocity: int = 64, channel: int = 0) -> bytes:
    """Events of a note that starts `wait` ticks after the event before, both times below 16,384."""
    on, off = bytes([0x90 + channel, pitch, velocity]), bytes([0x80 + channel, pitch, 0])
    return _ticks(wait) + on + _ticks(length) + off


def tempo(wait: int, microseconds: int) -> bytes:
    return _ticks(wait) + b"\xff\x51\x03" + microseconds.to_bytes(3, "big")


def name(text: str) -> bytes:
    return b"\x00\xff\x03" + bytes([len(text)]) + text.encode()


def _ticks(number: int) -> bytes:
    return bytes([0x80 | number >> 7, number & 0x7F])


def tuples(notes: Notes) -> list[tuple[int, ...]]:
    return list(zip(*(part.tolist() for part in notes), strict=True))


def read(*arguments: Any, **settings: Any) -> Notes:
    return read_notes(*arguments, **settings).notes


def test_times_are_rounded_to_steps_and_a_beat_lasts_half_a_second_by_default() -> None:
    content = midi(note(0, 480, 60) + note(470, 11, 62))  # ends at 480 ticks = 0.5 s; from 950 to 961 ticks
    assert tuples(read(content, HERTZ20)) == [(0, 10, 60, 64), (20, 21, 62, 64)]


def test_tempo_changes_are_followed_in_every_track() -> None:
    """A beat of 1 s from tick 480 on: tick 960 is at 0.5 + 1 = 1.5 s; two beats of 0.25 s from tick 960."""
    tempos = tempo(480, 1_000_000) + tempo(480, 250_000)
    content = midi(tempos, note(960, 960, 70))
    assert tuples(read(content, HERTZ20)) == [(30, 40, 70, 64)]


def test_steps_of_a_beat_do_not_depend_on_the_tempo() -> None:
    content = midi(tempo(0, 1_000_000) + note(480, 240, 70))
    assert tuples(read(content, Clock(20.0, 4))) == [(4, 6, 70, 64)]


def test_tracks_are_merged_or_chosen_by_name() -> None:
    content = midi(name("right") + note(0, 480, 72), name("left") + note(240, 240, 48))
    assert [row[2] for row in tuples(read(content, HERTZ20))] == [72, 48]
    assert tuples(read(content, HERTZ20, ["left"])) == [(5, 10, 48, 64)]
    with pytest.raises(DataError, match="no track 'middle', only 'right', 'left'"):
        read(content, HERTZ20, ["middle"])


def test_drums_are_read_only_if_asked() -> None:
    content = midi(note(0, 480, 72), note(0, 480, 36, channel=9))
    assert [row[2] for row in tuples(read(content, HERTZ20))] == [72]
    assert [row[2] for row in tuples(read(content, HERTZ20, drums=True))] == [36, 72]


def test_notes_without_length_last_one_step() -> None:
    assert tuples(read(midi(note(0, 0, 60)), HERTZ20)) == [(0, 1, 60, 64)]


def test_notes_without_an_end_last_until_the_last_event_of_a_note_and_are_counted() -> None:
    endless = b"\x00\x90\x3e\x40"
    reading = read_notes(midi(endless + note(480, 480, 60) + b"\x00\x90\x40\x40", note(0, 240, 65, channel=3)), HERTZ20)
    assert reading.unended == 2
    assert tuples(reading.notes) == [(0, 20, 62, 64), (0, 5, 65, 64), (10, 20, 60, 64), (20, 21, 64, 64)]
    assert read_notes(midi(note(0, 480, 60)), HERTZ20).unended == 0
    assert tuples(read(midi(endless), HERTZ20)) == [(0, 1, 62, 64)]


def test_a_note_without_an_end_gets_one_in_a_file_that_notes_are_added_to() -> None:
    content = midi(b"\x00\x90\x3e\x40" + note(0, 480, 60))
    whole = read_notes(add_notes(content, read(midi(note(0, 240, 72)), HERTZ20), HERTZ20), HERTZ20)
    assert whole.unended == 0
    assert tuples(whole.notes) == [(0, 10, 60, 64), (0, 10, 62, 64), (0, 5, 72, 64)]


def test_values_beyond_seven_bits_are_brought_into_range() -> None:
    """Two of 307 files of the collection that this was tried on have such values, and every player plays them."""
    assert tuples(read(midi(note(0, 480, 60, velocity=0xC0)), HERTZ20)) == [(0, 10, 60, 127)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is not a MIDI file: it is empty or very short"),
        (b"a text that is long enough to be a header", "it is not a MIDI file"),
        (midi(note(0, 480, 60))[:-8], "it is truncated"),
        (midi(note(0, 480, 60), division=0xE728), "SMPTE frames"),
        (midi(note(0, 480, 60), division=0), "a beat has no ticks"),
        (midi(), "it has no notes"),
        (midi(b""), "it has no notes"),
        (midi(note(0, 480, 36, channel=9)), "it has only drums, which models trained with data.drums=true read"),
        (midi(tempo(0, 0xFFFFFF) + 20 * note(16000, 0, 60)), "it lasts 186 minutes, more than 60: cut it, or set"),
        (midi(tempo(0, 0) + note(0, 480, 60)), "a beat has no length"),
    ],
)
def test_files_that_cannot_be_used_are_refused_with_the_reason(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(content, HERTZ20)


def test_a_time_halfway_between_two_steps_is_rounded_up() -> None:
    """Notes on the off-beats, one after another, stay apart."""
    content = midi(note(240, 480, 60) + note(0, 480, 60) + note(0, 480, 60))
    assert [row[:2] for row in tuples(read(content, Clock(20.0, 1)))] == [(1, 2), (2, 3), (3, 4)]


@pytest.mark.parametrize("clock", [HERTZ20, Clock(20.0, 4)])
def test_notes_are_added_at_the_tempos_of_the_file_and_the_rest_stays(clock: Clock) -> None:
    tempos = tempo(480, 1_000_000) + tempo(480, 250_000)
    content = midi(tempos, name("right") + note(960, 960, 70), name("drums") + note(0, 480, 36, channel=9))
    added = Notes(*np.array([(2, 5, 60, 90), (25, 40, 61, 80), (100, 101, 62, 70)]).T)
    whole = add_notes(content, added, clock)
    before = tuples(read(content, clock))
    assert sorted(tuples(read(whole, clock))) == sorted(before + tuples(added))
    assert tuples(read(whole, clock, ["right"])) == before
    assert [row[2] for row in tuples(read(whole, clock, ["drums"], drums=True))] == [36]


@pytest.mark.parametrize("clock", [HERTZ20, Clock(7.5), Clock(1000.0), Clock(20.0, 4), Clock(20.0, 480)])
def test_a_written_file_has_the_same_notes(clock: Clock, tmp_path: Path) -> None:
    roll = random_roll(RollLayout(30, 80, velocity=True), 400)
    notes = RollLayout(30, 80, velocity=True).to_notes(roll)
    assert len(notes.start) > 500
    write_notes(tmp_path / "song.mid", notes, clock)
    again = read((tmp_path / "song.mid").read_bytes(), clock)
    assert tuples(again) == tuples(notes)


def random_roll(layout: RollLayout, steps: int) -> np.ndarray:
    """A roll as notes make it: random notes of every pitch, some of them struck again at once."""
    generator = torch.Generator().manual_seed(steps)
    roll = np.zeros((steps, layout.channels), np.uint8)
    for column in range(layout.pitches):
        at = 0
        while at < steps - 1:
            length, rest, velocity = torch.randint(1, 12, (3,), generator=generator).tolist()
            end = min(steps, at + length)
            roll[at:end, column] = 10 * velocity if layout.velocity else 1
            if layout.onsets:
                roll[at, layout.pitches + column] = layout.scale
            at = end + (rest % 4 if layout.onsets else rest)
    return roll


@pytest.mark.parametrize("velocity", [False, True])
@pytest.mark.parametrize("onsets", [False, True])
def test_a_roll_survives_the_way_through_a_file(onsets: bool, velocity: bool, tmp_path: Path) -> None:
    layout = RollLayout(40, 70, onsets, velocity)
    roll = random_roll(layout, 300)
    write_notes(tmp_path / "song.mid", layout.to_notes(roll), HERTZ20)
    again = layout.to_roll(read((tmp_path / "song.mid").read_bytes(), HERTZ20))
    assert np.array_equal(again, roll[: len(again)])
    assert not roll[len(again) :].any()


def test_onsets_tell_a_note_struck_again_from_one_that_is_held() -> None:
    twice = Notes(*(np.array(part) for part in ([0, 3], [3, 5], [60, 60], [64, 64])))
    held = Notes(*(np.array(part) for part in ([0], [5], [60], [64])))
    with_onsets, without = RollLayout(60, 60), RollLayout(60, 60, onsets=False)
    assert not np.array_equal(with_onsets.to_roll(twice), with_onsets.to_roll(held))
    assert np.array_equal(without.to_roll(twice), without.to_roll(held))
    assert with_onsets.to_notes(with_onsets.to_roll(twice)).start.tolist() == [0, 3]
    assert without.to_notes(without.to_roll(twice)).start.tolist() == [0]


def test_a_strike_without_a_sounding_note_lasts_one_step() -> None:
    """A model's roll need not be consistent."""
    layout, roll = RollLayout(60, 60), np.zeros((5, 2), np.uint8)
    roll[2, 1] = 1
    notes = layout.to_notes(roll)
    assert (notes.start.tolist(), notes.end.tolist()) == ([2], [3])


def test_pitches_that_the_layout_does_not_have_are_left_out() -> None:
    notes = Notes(*(np.array(part) for part in ([0, 0, 2], [1, 1, 3], [59, 60, 61], [64, 64, 64])))
    layout = RollLayout(60, 60, onsets=False)
    assert layout.covers(notes).tolist() == [False, True, False]
    assert layout.to_roll(notes).tolist() == [[1], [0], [0]]
