"""Cuts: where one shot ends and another begins.

As in the adaptive detector of PySceneDetect, a difference counts by itself and beside those around it, because a camera
that moves fast changes every frame.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

__all__ = ["find_cuts"]

TIMES = 3.0
"""How many times larger a cut's difference is than the mean of those around it, `AROUND` on each side."""
AROUND = 2


def find_cuts(frames: np.ndarray, threshold: float) -> list[int]:
    """Return the first frame of every shot but the first.

    Args:
        frames: uint8 [T, H, W, 3].
        threshold: the least mean absolute difference of the frames at a cut, of levels in [0, 1].
    """
    found = [np.abs(after.astype(np.int16) - before).mean() for before, after in pairwise(frames)]
    differences = np.array(found) / 255
    cuts = []
    for index in np.flatnonzero(differences >= threshold).tolist():
        around = np.concatenate(
            [differences[max(0, index - AROUND) : index], differences[index + 1 : index + 1 + AROUND]]
        )
        if not len(around) or differences[index] >= TIMES * around.mean():
            cuts.append(index + 1)
    return cuts
