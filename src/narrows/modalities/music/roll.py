"""Piano rolls: notes as a value for every pitch and step of time, and back to notes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import Tensor

from narrows.errors import NarrowsError
from narrows.modalities.music.midi import PLAIN_VELOCITY, Clock, Notes

__all__ = ["THRESHOLD", "RollLayout", "require_threshold", "to_levels"]

LOUDEST = 127
SOFTEST = 16
"""The least velocity of a note that a model makes."""
THRESHOLD = 0.5
"""The probability above which a note sounds."""


@dataclass(frozen=True)
class RollLayout:
    """What the values of a piano roll mean.

    A roll is uint8 [T, C]. Its first P channels are the pitches from `lowest` to `highest`: `scale` (or with
    `velocity`, the velocity) while a note sounds, else 0. With `onsets`, P more channels are `scale` at the step where
    a note starts.

    Args:
        lowest: the lowest pitch, 0 to 127.
        highest: the highest pitch.
        onsets: whether there are channels for the starts of notes.
        velocity: whether the values of sounding notes are velocities.
        steps_per_beat: steps per beat; None if steps have a fixed length.
        drums: whether drum tracks are read, too.

    Raises:
        NarrowsError: if a value has the wrong type or size, as in a file that was edited.
    """

    lowest: int
    highest: int
    onsets: bool = True
    velocity: bool = False
    steps_per_beat: int | None = None
    drums: bool = False

    def __post_init__(self) -> None:
        numbers = (self.lowest, self.highest, self.steps_per_beat or 1)
        right = all(isinstance(number, int) for number in numbers) and 0 <= self.lowest <= self.highest <= LOUDEST
        flags = all(isinstance(flag, bool) for flag in (self.onsets, self.velocity, self.drums))
        if not right or not flags or numbers[2] < 1:
            raise NarrowsError(f"{self} describes no piano roll: its pitches are from 0 to {LOUDEST}")

    @classmethod
    def of(cls, details: Mapping[str, Any]) -> RollLayout:
        """Return the layout in the details of a model's `Spec`.

        Raises:
            NarrowsError: if they are not those of a piano roll.
        """
        try:
            return cls(**details)
        except TypeError as error:
            raise NarrowsError(f"{dict(details)} describes no piano roll: {error}") from error

    @property
    def details(self) -> dict[str, Any]:
        """The layout as the details of a `Spec`."""
        return asdict(self)

    @property
    def pitches(self) -> int:
        """P, number of pitches."""
        return self.highest - self.lowest + 1

    @property
    def channels(self) -> int:
        """C, number of values per step."""
        return self.pitches * (1 + self.onsets)

    @property
    def scale(self) -> int:
        """The largest value, which stands for 1."""
        return LOUDEST if self.velocity else 1

    def clock(self, rate: float | None) -> Clock:
        """Return how long a step is, given the steps per second of the `Spec`."""
        return Clock(rate or 1.0, self.steps_per_beat)

    def covers(self, notes: Notes) -> np.ndarray:
        """Return which notes have one of the pitches, bool [N]."""
        return (notes.pitch >= self.lowest) & (notes.pitch <= self.highest)

    def to_roll(self, notes: Notes) -> np.ndarray:
        """Return the roll uint8 [T, C] of notes, up to the end of the last; other pitches are left out."""
        roll = np.zeros((int(notes.end.max(initial=0)), self.channels), np.uint8)
        covered = self.covers(notes)
        kept = Notes(*(part[covered] for part in notes))
        lengths, column = kept.end - kept.start, kept.pitch - self.lowest
        # The places of every step of every note; where notes of one pitch overlap, the later one counts.
        first = kept.start * self.channels + column
        total = np.cumsum(lengths)
        places = np.repeat(first - self.channels * (total - lengths), lengths)
        places += self.channels * np.arange(len(places))
        roll.reshape(-1)[places] = np.repeat(kept.velocity, lengths) if self.velocity else self.scale
        if self.onsets:
            roll[kept.start, self.pitches + column] = self.scale
        return roll

    def to_notes(self, roll: np.ndarray) -> Notes:
        """Return the notes of a roll, which may be an imperfect one made by a model.

        A note starts where a pitch begins to sound and, with `onsets`, also where it is struck again. A pitch that is
        struck without sounding lasts one step.
        """
        level = roll[:, : self.pitches]
        struck = roll[:, self.pitches :] > 0 if self.onsets else np.zeros_like(level, bool)
        sounds = np.pad((level > 0) | struck, [(1, 1), (0, 0)])
        starts = sounds[1:-1] & (~sounds[:-2] | struck)
        ends = sounds[1:-1] & (~sounds[2:] | np.pad(starts[1:], [(0, 1), (0, 0)]))
        # By pitch, then by time: the k-th start of a pitch belongs to its k-th end.
        pitch, start = np.nonzero(starts.T)
        end = np.nonzero(ends.T)[1] + 1
        order = np.lexsort([pitch, start])
        pitch, start, end = pitch[order], start[order], end[order]
        velocity = level[start, pitch].astype(np.int64) if self.velocity else np.full(len(start), PLAIN_VELOCITY)
        return Notes(start, end, pitch + self.lowest, np.where(velocity == 0, PLAIN_VELOCITY, velocity))


def require_threshold(threshold: float, draws: bool) -> None:
    """Check that a threshold is only set for decoders that give probabilities, not for those that draw notes.

    Raises:
        NarrowsError: if it has no effect.
    """
    if draws and threshold != THRESHOLD:
        raise NarrowsError(f"--threshold {threshold:g}: the decoder of this model draws notes; leave it out")


def to_levels(x: Tensor, layout: RollLayout, threshold: float = THRESHOLD) -> np.ndarray:
    """Return the piano roll uint8 [T, C] of a model's values [C, T]; above the threshold, a value is on.

    Velocities are rounded instead; those below 16 of 127, which are hardly heard, are 0.
    """
    values = x.detach().cpu().numpy().T
    levels = (values > threshold) * layout.scale
    if layout.velocity:
        velocities = np.rint(values[:, : layout.pitches].clip(0, 1) * layout.scale)
        levels[:, : layout.pitches] = np.where(velocities < SOFTEST, 0, velocities)
    return levels.astype(np.uint8)
