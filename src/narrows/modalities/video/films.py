"""Clips as films (MP4 or GIF) with several side by side, and as strips of frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from narrows.data.films import require_av, save_gif, save_mp4
from narrows.data.pixels import save_picture, tiled, to_uint8

__all__ = ["DEFAULT_RATE", "frames_of", "save_strip", "side_by_side", "write_film"]

DEFAULT_RATE = 10.0
"""Frames per second at which clips of unknown rate are played."""
WIDTH = 240
"""Small clips are magnified to about this many pixels, because players show films at their size."""
QUALITY = 14
"""Of MP4 files: small pictures and synthetic ones show compression early."""
GAP = 4


def frames_of(x: Tensor) -> np.ndarray:
    """Return a clip [3, T, H, W] in [0, 1] as levels, uint8 [T, H, W, 3]."""
    return to_uint8(x).permute(1, 2, 3, 0).numpy()


def side_by_side(clips: Sequence[Tensor], scale: int) -> Iterator[np.ndarray]:
    """Yield the frames of clips [3, T, H, W] side by side on white, uint8 [H', W', 3].

    Args:
        clips: clips of one height and width; a shorter one stays in its last frame.
        scale: integer magnification.
    """
    films = [frames_of(x) for x in clips]
    between = np.full((films[0].shape[1], GAP, 3), 255, np.uint8)
    for index in range(max(map(len, films))):
        row = [part for film in films for part in (between, film[min(index, len(film) - 1)])][1:]
        yield np.concatenate(row, 1).repeat(scale, 0).repeat(scale, 1)


def write_film(path: Path, clips: Sequence[Tensor], rate: float | None, scale: int | None = None) -> None:
    """Write clips [3, T, H, W] side by side, as a GIF or MP4 film by the suffix of the path.

    Args:
        path: the file.
        clips: at least one.
        rate: frames per second; None if unknown.
        scale: integer magnification; None for one that makes small clips about 240 pixels wide.

    Raises:
        NarrowsError: if MP4 is asked for and PyAV is not installed.
    """
    frames = side_by_side(clips, scale or max(1, round(WIDTH / clips[0].shape[3])))
    if path.suffix == ".gif":
        save_gif(path, frames, rate or DEFAULT_RATE)
    else:
        require_av("video")
        save_mp4(path, frames, rate or DEFAULT_RATE, QUALITY)


def save_strip(path: Path, clips: Sequence[Tensor], frames: Sequence[int], scale: int = 1) -> None:
    """Write a PNG file with a row of frames of each clip [3, T, H, W].

    Args:
        path: the file.
        clips: the clips.
        frames: the frames that are shown; a shorter clip stays in its last frame.
        scale: integer magnification.
    """
    rows = [x[:, [min(frame, x.shape[1] - 1) for frame in frames]].transpose(0, 1) for x in clips]
    save_picture(path, tiled(torch.cat(rows), len(frames), scale=scale))
