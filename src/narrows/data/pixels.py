"""Pixels as levels and as numbers in [0, 1], tiled into one picture, and written as picture files."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from narrows.atomic import whole_file
from narrows.data.errors import DataError

__all__ = ["save_picture", "tiled", "to_uint8", "to_unit"]


def to_unit(levels: Tensor) -> Tensor:
    """Return levels 0 to 255, uint8 [*], as float32 in [0, 1]."""
    return levels.float() / 255


def to_uint8(pictures: Tensor) -> Tensor:
    """Return images in [0, 1] rounded to the levels 0 to 255, uint8 [*]; values outside are clipped.

    Raises:
        DataError: if a value is NaN or infinite.
    """
    pictures = pictures.detach().float().cpu()
    if not pictures.isfinite().all():
        raise DataError("the images have values that are not finite, so they cannot be drawn")
    return (pictures.clamp(0, 1) * 255).round().to(torch.uint8)


def tiled(pictures: Tensor, columns: int, gap: int = 2, scale: int = 1) -> np.ndarray:
    """Return images arranged in a grid, row by row, on white.

    Args:
        pictures: [N, C, H, W] in [0, 1], C = 1 (grey) or 3 (RGB).
        columns: the number of images in a row; the last row may be shorter.
        gap: the number of pixels between two images.
        scale: integer magnification of the grid.

    Returns:
        uint8 [`scale` (rows (H + gap) - gap), `scale` (columns (W + gap) - gap), 3].
    """
    tiles = to_uint8(pictures).permute(0, 2, 3, 1).numpy()
    count, height, width, _ = tiles.shape
    rows = math.ceil(count / columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for index, tile in enumerate(tiles):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = tile
    return sheet.repeat(scale, 0).repeat(scale, 1)


def save_picture(path: str | Path, picture: Tensor | np.ndarray) -> None:
    """Write an image file, complete or not at all; its extension gives the format. PNG is lossless.

    Args:
        path: the file.
        picture: a tensor [C, H, W] in [0, 1] with C = 1 or 3, or the uint8 array [H, W, 3] of a grid.

    Raises:
        DataError: if the extension is not that of an image format, or the values are not finite.
    """
    path = Path(path)
    form = Image.registered_extensions().get(path.suffix.lower())
    if form not in Image.SAVE:
        raise DataError(f"{path}: no image format has the extension {path.suffix!r}; use .png")
    pixels = picture if isinstance(picture, np.ndarray) else to_uint8(picture).permute(1, 2, 0).squeeze(-1).numpy()
    with whole_file(path) as aside:
        Image.fromarray(np.ascontiguousarray(pixels)).save(aside, form)
