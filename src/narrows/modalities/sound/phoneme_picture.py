"""Which phonemes the codes of sound stand for: a map of codes against phonemes, after van den Oord et al. 2017, 4.3."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from narrows.errors import NarrowsError
from narrows.report.page import COLUMN, LABELS, Picture

__all__ = ["code_phoneme_map"]

COLOUR = (32, 142, 170)
"""Seen on the page's light ground and on its dark one."""

LANE = 20
"""The opacity of a share of 0, of 255: just enough to lead the eye along a row from its name."""

CELL = 24
"""The width up to which the column of a code grows, in screen pixels."""

ROW = 16
"""The height of a phoneme's row, a line of its name, in screen pixels."""


def code_phoneme_map(counts: np.ndarray, phonemes: Sequence[str]) -> Picture:
    """Codes from left to right against phonemes from the most to the least frequent, shaded by their shares.

    Codes stand in the order of the phonemes they stand for, and among those of one phoneme in the order of its share,
    so that a map of codes that tell phonemes apart is a staircase. Codes and phonemes never counted are left out.

    Args:
        counts: how many frames have each code and phoneme, [K, P], as `PhonemeMap.counts`.
        phonemes: their names, P of them.

    Raises:
        NarrowsError: if nothing was counted, or the names are not P.
    """
    if counts.ndim != 2 or len(phonemes) != counts.shape[1] or not counts.any():
        raise NarrowsError(
            f"a map of phonemes is drawn of counts [K, P], not all 0, and P names; got {list(counts.shape)} counts and "
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
        "frames. The stronger the colour, the greater the phoneme's share of the code's frames (full colour is all of "
        "them, half the colour a quarter). Codes stand in the order of their most frequent phonemes.",
        _cells(shares[columns][:, rows].T),
        scale=1,
        row_labels=[f"{phonemes[row]} {100 * frames[row] / frames.sum():.1f}%" for row in rows],
    )


def _cells(shares: np.ndarray) -> np.ndarray:
    """Shares [rows, columns] as cells, uint8 [height, width, 4], with a gap below each row."""
    width = max(1, min(CELL, (COLUMN - LABELS) // shares.shape[1]))
    cells = np.full((*shares.shape, 4), (*COLOUR, 0), np.uint8)
    # By the square root: most shares are small, and would not be seen.
    cells[..., 3] = np.rint(LANE + (255 - LANE) * np.sqrt(shares))
    sheet = cells.repeat(ROW, 0).repeat(width, 1)
    sheet[ROW - 1 :: ROW] = 0
    return sheet
