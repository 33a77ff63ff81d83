"""Films on a page: clips that play by themselves, side by side, without scripts, as animated WebP pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from PIL import Image
from torch import Tensor

from narrows.modalities.video.films import DEFAULT_RATE, frames_of
from narrows.report.page import Block

__all__ = ["Films"]

LONGEST = 64
"""The most frames of a clip on a page."""
QUALITY = 75
WIDTH = 252
"""The largest width to which small clips are magnified, in screen pixels."""


@dataclass(frozen=True, eq=False)
class Films(Block):
    """Clips that play, row by row.

    Args:
        caption: the caption.
        rows: clips [3, T, H, W] in [0, 1] by their names, shown side by side, such as an original and its
            reconstruction. The first 64 frames are shown, which the name of a longer clip says.
        rate: frames per second; None if unknown.

    Raises:
        ValueError: if there are no rows, or a row has no clips.
    """

    caption: str
    rows: Sequence[Sequence[tuple[str, Tensor]]]
    rate: float | None

    def __post_init__(self) -> None:
        if not self.rows or not all(self.rows):
            raise ValueError(f"The films {self.caption!r} need at least one row, and every row at least one clip.")

    @property
    def columns(self) -> int:
        """The number of clips in the longest row, which all rows share as columns."""
        return max(map(len, self.rows))

    @property
    def cells(self) -> list[list[_Cell]]:
        """The clips as the template shows them."""
        return [[self._cell(name, x) for name, x in row] for row in self.rows]

    def _cell(self, name: str, x: Tensor) -> _Cell:
        rate, (height, width) = self.rate or DEFAULT_RATE, x.shape[2:]
        scale = max(1, WIDTH // width)
        shown = x[:, :LONGEST]
        if shown.shape[1] < x.shape[1]:
            name = f"{name}: the first {LONGEST} of {x.shape[1]} frames"
        return _Cell(name, shown.shape[1] / rate, width * scale, height * scale, _webp(shown, rate))


class _Cell(NamedTuple):
    """A clip for the template, with its size in screen pixels."""

    name: str
    seconds: float
    width: int
    height: int
    webp: str


def _webp(x: Tensor, rate: float) -> str:
    """Return a clip as a base64 WebP that plays without end."""
    first, *others = map(Image.fromarray, frames_of(x))
    buffer = io.BytesIO()
    first.save(
        buffer, "WEBP", save_all=True, append_images=others, duration=round(1000 / rate), loop=0, quality=QUALITY
    )
    return base64.b64encode(buffer.getvalue()).decode("ascii")
