"""Image grids for the report: originals above their reconstructions, samples, interpolations.

Images are magnified by an integer factor that keeps the grid within the page's column. The gaps are transparent, so
that they show the page's background in both its light and dark schemes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from narrows.report.page import COLUMN, LABELS, Picture

__all__ = ["grid", "versions_grid"]

TILE = 96
"""Largest width to which a small image is magnified, in screen pixels."""


def versions_grid(versions: Mapping[str, Tensor | np.ndarray], caption: str) -> Picture:
    """Return a picture with the versions of each image one above the other, in as many columns as fit on the page.

    Except for pairs, each version is one row, with its name beside it.

    Args:
        versions: images [N, C, H, W] in [0, 1] by the name of the version, all of the same shape.
        caption: the caption of the picture.

    Raises:
        ValueError: if the shapes differ, or a version is not a batch of images (see `grid`).
    """
    tiles = {name: _tiles(pictures) for name, pictures in versions.items()}
    if len({each.shape for each in tiles.values()}) > 1:
        shapes = ", ".join(f"{name} {list(pictures.shape)}" for name, pictures in tiles.items())
        raise ValueError(f"The versions of images must have one shape; got {shapes}.")
    count, _, width, _ = next(iter(tiles.values())).shape
    gap = _gap(width)
    if len(tiles) != 2:
        stacked = torch.cat([torch.as_tensor(pictures) for pictures in versions.values()])
        return grid(stacked, count, list(tiles), caption)
    between = np.zeros((count, gap, width, 4), np.uint8)
    parts = [part for own in tiles.values() for part in (between, own)][1:]
    scale = max(1, TILE // width)
    rows = -(-count // max(1, COLUMN // ((width + gap) * scale)))
    sheet = _mosaic(np.concatenate(parts, axis=1), columns=-(-count // rows), across=gap, down=3 * gap)
    return Picture(caption, sheet, scale)


def grid(
    pictures: Tensor | np.ndarray,
    columns: int,
    row_labels: Sequence[str] = (),
    caption: str = "Samples.",
) -> Picture:
    """Return a picture of images in a grid, row by row.

    Args:
        pictures: [N, C, H, W] with 1 or 3 channels, floats in [0, 1]; values outside are clipped.
        columns: the number of images in a row; the last row may be shorter.
        row_labels: a name for each row, such as the class of its samples; empty for none.
        caption: the caption of the picture.

    Raises:
        ValueError: if the images are not finite floats of that shape, or there are none; if `columns` is below 1, or
            there is not one label per row.
    """
    if columns < 1:
        raise ValueError(f"A grid needs at least one column; got {columns}.")
    tiles = _tiles(pictures)
    rows = -(-len(tiles) // columns)
    if row_labels and len(row_labels) != rows:
        raise ValueError(f"A grid of {rows} rows needs as many row labels; got {len(row_labels)}.")
    width = tiles.shape[2]
    pixels = _mosaic(tiles, min(columns, len(tiles)), across=_gap(width), down=_gap(width))
    room = COLUMN - LABELS if row_labels else COLUMN
    return Picture(caption, pixels, max(1, min(TILE // width, room // pixels.shape[1])), row_labels)


def _tiles(pictures: Tensor | np.ndarray) -> np.ndarray:
    """Return images [N, C, H, W] in [0, 1] as opaque uint8 tiles [N, H, W, 4]."""
    values = torch.as_tensor(pictures).detach().cpu()
    if values.ndim != 4 or values.shape[1] not in (1, 3) or values.numel() == 0:
        raise ValueError(f"Pictures need images [N, C, H, W] with 1 or 3 channels; got {list(values.shape)}.")
    if not values.is_floating_point():
        raise ValueError(f"Pictures need floats in [0, 1]; got {values.dtype}: divide the levels by 255.")
    if not values.isfinite().all():
        raise ValueError("The images have values that are not finite, so they cannot be drawn.")
    levels = (values.float().clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    opaque = torch.full_like(levels[..., :1], 255)
    return torch.cat([levels.expand(-1, -1, -1, 3), opaque], dim=-1).numpy()


def _mosaic(tiles: np.ndarray, columns: int, across: int, down: int) -> np.ndarray:
    """Return tiles [N, H, W, 4] arranged in rows of `columns`, with transparent gaps."""
    count = len(tiles)
    rows = -(-count // columns)
    padded = np.pad(tiles, ((0, rows * columns - count), (0, down), (0, across), (0, 0)))
    _, height, width, channels = padded.shape
    sheet = padded.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return sheet.reshape(rows * height, columns * width, channels)[:-down, :-across]


def _gap(width: int) -> int:
    """Return the gap between tiles in image pixels, in proportion to their width."""
    return max(1, width // 32)
