"""Piano rolls on a page: each is drawn, and played by WebAudio when it is clicked."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from narrows.modalities.music.midi import SECONDS_PER_BEAT, Clock
from narrows.modalities.music.roll import RollLayout
from narrows.report.page import Block

__all__ = ["PianoRolls", "Tune", "drawn", "step_seconds"]

QUIET = 90
"""Darkness of the softest sounding note, of 255."""


@dataclass(frozen=True, eq=False)
class Tune:
    """A piano roll with a name.

    Args:
        name: the text above it.
        roll: uint8 [T, C].
    """

    name: str
    roll: np.ndarray


@dataclass(frozen=True, eq=False)
class PianoRolls(Block):
    """Tunes to look at and to play, row by row; a click starts or stops one.

    Args:
        caption: the caption.
        rows: tunes shown side by side, such as an original and its reconstruction.
        layout: what the values of the rolls mean.
        clock: how long a step is.

    Raises:
        ValueError: if there are no rows, or a row has no tunes.
    """

    caption: str
    rows: Sequence[Sequence[Tune]]
    layout: RollLayout
    clock: Clock

    scripts = ("tunes.js",)

    def __post_init__(self) -> None:
        if not self.rows or not all(self.rows):
            raise ValueError(f"The tunes {self.caption!r} need at least one row, and every row at least one tune.")

    @property
    def columns(self) -> int:
        """The number of tunes in the longest row, which all rows share as columns."""
        return max(map(len, self.rows))

    @property
    def cells(self) -> list[list[_Cell]]:
        """The tunes as the template shows them."""
        step = step_seconds(self.clock)
        return [[self._cell(tune, step, max(len(other.roll) for other in row)) for tune in row] for row in self.rows]

    def _cell(self, tune: Tune, step: float, longest: int) -> _Cell:
        notes = self.layout.to_notes(tune.roll)
        played = np.stack([notes.start, notes.end - notes.start, notes.pitch, notes.velocity], 1).tolist()
        buffer = io.BytesIO()
        Image.fromarray(drawn(tune.roll, self.layout)).save(buffer, "PNG", optimize=True)
        png = base64.b64encode(buffer.getvalue()).decode("ascii")
        share = len(tune.roll) / longest
        return _Cell(
            tune.name,
            step,
            len(tune.roll),
            share,
            len(tune.roll) * step,
            png,
            json.dumps(played, separators=(",", ":")),
        )


class _Cell(NamedTuple):
    """A tune for the template; `share` is its length over that of its row's longest, `notes` are JSON, in steps."""

    name: str
    step: float
    steps: int
    share: float
    seconds: float
    png: str
    notes: str


def drawn(roll: np.ndarray, layout: RollLayout) -> np.ndarray:
    """Return the picture of a roll, uint8 [P, T, 4]: dark notes on nothing, high pitches at the top.

    Where a note starts, its colour is different.
    """
    notes = layout.to_notes(roll)
    picture = np.zeros((layout.pitches, max(1, len(roll)), 4), np.uint8)
    for start, end, pitch, velocity in zip(*(part.tolist() for part in notes), strict=True):
        row = layout.highest - pitch
        picture[row, start:end] = (58, 110, 165, QUIET + (255 - QUIET) * velocity // 127)
        picture[row, start, :3] = (200, 80, 40)
    return picture


def step_seconds(clock: Clock) -> float:
    """Return the length of a step in seconds; beats are played at 120 a minute."""
    return SECONDS_PER_BEAT / clock.per_beat if clock.per_beat else 1 / clock.rate
