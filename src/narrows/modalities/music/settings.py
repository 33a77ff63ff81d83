"""The settings of `data` in a recipe for music."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from narrows.data.errors import DataError
from narrows.data.limits import require_at_least, require_positive, require_rest, require_shares

__all__ = ["MusicSettings"]


@dataclass
class MusicSettings:
    """Which music to read, and how.

    Args:
        source: a folder of MIDI files, or a single one; every file is a song, and its path names its class.
        songs: the songs to use, by name; empty means all.
        rate: steps per second of the piano roll.
        steps_per_beat: steps per beat, whatever the tempo, instead of `rate` steps per second.
        window: steps of a training window.
        stride: steps from the start of one training window to the next, 1 for a window at every step; None means
            `window`, so that windows do not overlap.
        windows_per_song: use only the first windows of each song; None uses all.
        tracks: names of the tracks to read, for all songs; empty reads and merges all.
        drums: also read the drum tracks, whose pitches are instruments.
        onsets: tell notes that are struck again from notes that are held, by a second value for every pitch: whether
            a note starts at this step. Without, notes of one pitch that follow each other directly are one note.
        velocity: keep how hard notes are struck: values are 0 to 127, divided by 127, instead of 0 and 1. This needs a
            likelihood other than Bernoulli.
        removed_notes: the share of the notes of a training window, chosen at random, that the encoder does not see and
            the decoder has to give all the same, as in a denoising autoencoder (Vincent et al. 2008).
        pitches: the lowest and the highest pitch (60 is middle C); None finds them in the training data.
        rare: the share of the training notes that may lie below the lowest or above the highest pitch, if they are
            found in the data. Notes outside are left out.
        hold_out: `time` holds out a stretch of every song, so that all songs are known; `song` holds out whole songs.
        validation: the share of the music to hold out for validation.
        test: the share of the music to hold out for testing.
        gap: steps left out on both sides of a held-out stretch; None means `window`.
        split_seed: the seed of the choice of held-out music.
        max_minutes: files that last longer are skipped, because they are seldom music.
        strict: stop at the first file that cannot be read, instead of skipping it.
    """

    source: str = ""
    songs: list[str] = field(default_factory=list)
    rate: float = 20.0
    steps_per_beat: int | None = None
    window: int = 50
    stride: int | None = None
    windows_per_song: int | None = None
    tracks: list[str] = field(default_factory=list)
    drums: bool = False
    onsets: bool = True
    velocity: bool = False
    removed_notes: float = 0.0
    pitches: tuple[int, int] | None = None
    rare: float = 0.005
    hold_out: Literal["time", "song"] = "time"
    validation: float = 0.05
    test: float = 0.1
    gap: int | None = None
    split_seed: int = 0
    max_minutes: float = 60.0
    strict: bool = False

    def __post_init__(self) -> None:
        if not self.source:
            raise DataError("data.source is not set: give the folder of MIDI files with --data FOLDER")
        if not 1 <= self.rate <= 1000:
            raise DataError(f"data.rate is {self.rate:g}: it must be 1 to 1000 steps per second")
        if self.steps_per_beat is not None and not 1 <= self.steps_per_beat <= 480:
            raise DataError(f"data.steps_per_beat is {self.steps_per_beat}: it must be 1 to 480")
        require_at_least(self, {"window": 1, "stride": 1, "windows_per_song": 1, "gap": 0, "split_seed": 0})
        require_shares(self, ("validation", "test", "rare", "removed_notes"))
        require_rest(self)
        require_positive(self, ["max_minutes"])
        if self.pitches is not None and not 0 <= self.pitches[0] <= self.pitches[1] <= 127:
            raise DataError(f"data.pitches is {self.pitches}: give the lowest and the highest, from 0 to 127")
