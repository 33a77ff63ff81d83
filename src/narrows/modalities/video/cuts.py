"""Cuts: where one shot ends and another begins.

Frames are compared as thumbnails, whose differences depend less on fine texture, and by their colours wherever these
are (Zhang, Kankanhalli and Smoliar 1993, "Automatic partitioning of full-motion video"), which change little when a
camera turns. As in the adaptive detector of PySceneDetect, a difference counts by itself and beside those around it,
because a camera that moves fast changes every frame.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

__all__ = ["find_cuts"]

THUMBNAIL = 12
"""Height and width of the thumbnails."""
BINS = 8
"""Bins of each of red, green and blue; a colour between two counts in both, so a little more light changes little."""
PIXELS = 48
"""The most rows and columns of pixels whose colours are counted, evenly spaced."""
COLOURS = 3.5
"""How many times larger the difference of colours at a cut is than that of thumbnails."""
TIMES = 3.0
"""How many times larger a cut's difference is than the mean of those around it, `AROUND` on each side."""
AROUND = 2
AT_ONCE = 64


def find_cuts(frames: np.ndarray, threshold: float) -> list[int]:
    """Return the first frame of every shot but the first.

    Args:
        frames: uint8 [T, H, W, 3].
        threshold: the least mean absolute difference of the thumbnails at a cut, of levels in [0, 1]. The least share
            of the pixels by which the numbers of each colour differ is 3.5 times that; one of the two is enough.
    """
    small, colours = (torch.cat(parts) for parts in zip(*_measures(frames), strict=True))
    thumbnails = small.diff(dim=0).abs().mean((1, 2, 3))
    shares = colours.diff(dim=0).abs().sum((1, 2)) / 2
    found = _sticking_out(thumbnails.numpy(), threshold) | _sticking_out(shares.numpy(), COLOURS * threshold)
    return sorted(found)


def _measures(frames: np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield thumbnails [N, 3, h, w] and the shares of colours [N, red and green, blue] of parts of the frames."""
    rows, columns = (-(-size // PIXELS) for size in frames.shape[1:3])
    for at in range(0, len(frames), AT_ONCE):
        part = torch.from_numpy(frames[at : at + AT_ONCE])
        yield adaptive_avg_pool2d(part.movedim(-1, 1).float() / 255, THUMBNAIL), _colours(part[:, ::rows, ::columns])


def _colours(frames: Tensor) -> Tensor:
    """Return the shares of the pixels in each bin, [N, BINS^2, BINS], of frames uint8 [N, H, W, 3]."""
    levels = frames.flatten(1, 2).float() * ((BINS - 1) / 255)
    red, green, blue = (1 - (levels.unsqueeze(-1) - torch.arange(BINS)).abs()).relu().unbind(2)
    both = (red.unsqueeze(-1) * green.unsqueeze(-2)).flatten(2)
    return both.mT @ blue / levels.shape[1]


def _sticking_out(differences: np.ndarray, least: float) -> set[int]:
    """Return where differences are at least `least` and stick out, as the indices of the frames after them."""
    cuts = set()
    for index in np.flatnonzero(differences >= least).tolist():
        before, after = differences[max(0, index - AROUND) : index], differences[index + 1 : index + 1 + AROUND]
        around = np.concatenate([before, after])
        if not len(around) or differences[index] >= TIMES * around.mean():
            cuts.add(index + 1)
    return cuts
