"""Cuts: where one shot ends and another begins.

As in the adaptive detector of PySceneDetect, a difference counts by itself and beside those around it, because a camera
that moves fast changes every frame. Frames are compared as thumbnails, whose differences depend less on fine texture.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool2d

__all__ = ["find_cuts"]

THUMBNAIL = 12
"""Height and width of the thumbnails."""
TIMES = 3.0
"""How many times larger a cut's difference is than the mean of those around it, `AROUND` on each side."""
AROUND = 2
AT_ONCE = 256


def find_cuts(frames: np.ndarray, threshold: float) -> list[int]:
    """Return the first frame of every shot but the first.

    Args:
        frames: uint8 [T, H, W, 3].
        threshold: the least mean absolute difference of the thumbnails at a cut, of levels in [0, 1].
    """
    parts = (torch.from_numpy(frames[at : at + AT_ONCE]) for at in range(0, len(frames), AT_ONCE))
    small = torch.cat([adaptive_avg_pool2d(part.movedim(-1, 1).float(), THUMBNAIL) for part in parts]) / 255
    differences = small.diff(dim=0).abs().mean((1, 2, 3)).numpy()
    cuts = []
    for index in np.flatnonzero(differences >= threshold).tolist():
        before, after = differences[max(0, index - AROUND) : index], differences[index + 1 : index + 1 + AROUND]
        around = np.concatenate([before, after])
        if not len(around) or differences[index] >= TIMES * around.mean():
            cuts.append(index + 1)
    return cuts
