"""A picture of codes against the phonemes they predict, after van den Oord et al. 2017, section 4.3."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from narrows.errors import NarrowsError
from narrows.report.page import COLUMN, LABELS, Picture

__all__ = ["code_phoneme_map"]

COLOUR = (32, 142, 170)
"""Visible on both the light and the dark background of the page."""

LANE = 20
"""Opacity (0 to 255) of a share of 0: just enough to follow a row from its name."""

CELL = 24
"""Largest width of a code's column in screen pixels."""

ROW = 16
"""Height of a phoneme's row in screen pixels, equal to a line of its name."""


def code_phoneme_map(counts: np.ndarray, phonemes: Sequence[str]) -> Picture:
    """Return a picture with a column per code and a row per phoneme, shaded by its share of the code's frames.

    Phonemes are sorted from most to least frequent, and codes by the phoneme they predict, then by its share, so that
    codes that predict phonemes well form a staircase. Codes and phonemes without frames are left out.

    Args:
        counts: number of frames with each code and phoneme, [K, P], as in `PhonemeMap.counts`.
        phonemes: the names of the P phonemes.

    Raises:
        NarrowsError: if all counts are 0, or the number of names is not P.
    """
    if counts.ndim != 2 or len(phonemes) != counts.shape[1] or not counts.any():
        raise NarrowsError(
            f"a map of phonemes needs counts [K, P], not all 0, and P names; got {list(counts.shape)} counts and "
            f"{len(phonemes)} names"
        )
    frames = counts.sum(0)
    order = np.argsort(-frames, kind="stable")
    rows = order[: np.count_nonzero(frames)]
    used = counts[counts.any(1)]
    shares = used / used.sum(1, keepdims=True)
    columns = np.lexsort((-shares.max(1), np.argsort(order)[used.argmax(1)]))
    return Picture(
        f"Each column is a code ({len(used)} of {len(counts)} are in use), each row a phoneme with its share of all "
        "frames. The stronger the colour, the greater the phoneme's share of the code's frames: full colour is all of "
        "them, half strength a quarter. Codes are sorted by their most frequent phoneme.",
        _cells(shares[columns][:, rows].T),
        scale=1,
        row_labels=[f"{phonemes[row]} {100 * frames[row] / frames.sum():.1f}%" for row in rows],
    )


def _cells(shares: np.ndarray) -> np.ndarray:
    """Return shares [rows, columns] as coloured cells, uint8 [height, width, 4], with a gap below each row."""
    width = max(1, min(CELL, (COLUMN - LABELS) // shares.shape[1]))
    cells = np.full((*shares.shape, 4), (*COLOUR, 0), np.uint8)
    # The square root, because most shares are small and would be invisible.
    cells[..., 3] = np.rint(LANE + (255 - LANE) * np.sqrt(shares))
    sheet = cells.repeat(ROW, 0).repeat(width, 1)
    sheet[ROW - 1 :: ROW] = 0
    return sheet
