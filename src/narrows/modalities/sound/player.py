"""Sounds on a page: players, each with a drawing of the waveform and of the log-mel spectrogram, side by side.

A waveform is drawn as its envelope, the lowest and highest sample of each column; a spectrogram in 32 colours of the
perceptually uniform colour map magma. For speech, the two take about a seventh of the bytes of the sound itself.
"""

from __future__ import annotations

import base64
import io
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import matplotlib
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool1d

from narrows.modalities.sound.files import LOWEST_RATE, to_int16
from narrows.modalities.sound.mel import FLOOR, log_mel
from narrows.report.page import Block

__all__ = ["Clip", "Sounds"]

COLUMNS = 400
"""The most columns of a drawing: more than its pixels in a row of several, and 4 s of spectrogram frames."""
CEILING = -10.0
"""In dB; louder bands have the lightest colour. Speech and music are hardly ever louder."""
COLOURS = 32


@dataclass(frozen=True, eq=False)
class Clip:
    """One sound.

    Args:
        name: the text above the player.
        waveform: float [T] in [-1, 1]; values outside are clipped.

    Raises:
        ValueError: if the waveform has another shape, is not floats, or has values that are not finite.
    """

    name: str
    waveform: Tensor | np.ndarray

    def __post_init__(self) -> None:
        values = torch.as_tensor(self.waveform)
        if values.ndim != 1 or not len(values) or not values.is_floating_point():
            raise ValueError(
                f"A clip needs a waveform, float [T] in [-1, 1]; {self.name!r} is {values.dtype} {list(values.shape)}."
            )
        if not values.isfinite().all():
            raise ValueError(f"The clip {self.name!r} has values that are not finite, so it cannot be played.")

    @property
    def samples(self) -> Tensor:
        """The waveform as it is played and drawn, float32 [T] in [-1, 1], on the CPU."""
        return torch.as_tensor(self.waveform).detach().cpu().float().clamp(-1, 1)


@dataclass(frozen=True, eq=False)
class Sounds(Block):
    """Clips to play, with their drawings.

    All drawings of a row share one time scale and one amplitude scale, set by the row's longest and loudest clips. The
    colour scale of spectrograms, in dB, is the same everywhere.

    Args:
        caption: the caption.
        rows: clips shown side by side, such as an original, its reconstruction and its conversion.
        sample_rate: of every clip, in Hz.

    Raises:
        ValueError: if there are no rows, a row has no clips, or the rate is below 1000 Hz.
    """

    caption: str
    rows: Sequence[Sequence[Clip]]
    sample_rate: int

    def __post_init__(self) -> None:
        if not self.rows or not all(self.rows):
            raise ValueError(f"The sounds {self.caption!r} need at least one row, and every row at least one clip.")
        if self.sample_rate < LOWEST_RATE:
            raise ValueError(
                f"The sounds {self.caption!r} need a sample rate of at least {LOWEST_RATE}; got {self.sample_rate}."
            )

    @property
    def columns(self) -> int:
        """The number of clips in the longest row, which all rows share as columns."""
        return max(map(len, self.rows))

    @property
    def cells(self) -> list[list[_Cell]]:
        """The clips as the template shows them."""
        return [self._row(row) for row in self.rows]

    def _row(self, row: Sequence[Clip]) -> list[_Cell]:
        sounds = [clip.samples for clip in row]
        longest = max(map(len, sounds))
        loudest = max(float(sound.abs().max()) for sound in sounds)
        return [
            _Cell(
                clip.name,
                seconds=len(sound) / self.sample_rate,
                share=len(sound) / longest,
                wav=_wav(sound.numpy(), self.sample_rate),
                outline=_outline(sound.numpy() / (loudest or 1)),
                width=min(COLUMNS, len(sound)),
                png=_png(log_mel(sound, self.sample_rate)),
            )
            for clip, sound in zip(row, sounds, strict=True)
        ]


class _Cell(NamedTuple):
    """A clip for the template; `share` is its length over that of its row's longest clip, `width` its columns."""

    name: str
    seconds: float
    share: float
    wav: str
    outline: str
    width: int
    png: str


def _wav(samples: np.ndarray, sample_rate: int) -> str:
    """Return samples [T] as a base64 16-bit WAV file."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(to_int16(samples).astype("<i2").tobytes())
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _outline(samples: np.ndarray) -> str:
    """Return the envelope of samples [T] as an SVG path in whole steps: out along the highest, back along the lowest.

    Column c is at x = c; positive full scale is at y = -100, negative at y = 100.
    """
    starts = np.linspace(0, len(samples), min(COLUMNS, len(samples)), endpoint=False).astype(int)
    highest, lowest = np.maximum.reduceat(samples, starts), np.minimum.reduceat(samples, starts)
    x = np.arange(len(starts))
    points = np.stack([np.r_[x, x[::-1]], np.rint(-100 * np.r_[highest, lowest[::-1]]).astype(int)], axis=1)
    steps = " ".join(f"{across} {down}" for across, down in np.diff(points, axis=0))
    return f"M0 {points[0, 1]}l{steps}z"


def _png(decibels: Tensor) -> str:
    """Return a spectrogram [frames, bands] as a base64 PNG, with the low bands at the bottom."""
    columns = adaptive_avg_pool1d(decibels.T[None], min(COLUMNS, len(decibels)))[0]
    levels = ((columns.flip(0) - FLOOR) / (CEILING - FLOOR)).clamp(0, 1) * (COLOURS - 1)
    image = Image.fromarray(levels.round().to(torch.uint8).numpy())
    image.putpalette(matplotlib.colormaps["magma"](np.linspace(0, 1, COLOURS), bytes=True)[:, :3].tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
