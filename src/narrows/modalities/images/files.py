"""Read image files into tensors, and write tensors as image files."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from narrows.atomic import whole_file
from narrows.data.batch import Batch
from narrows.data.errors import DataError
from narrows.data.skipped import Refused
from narrows.modalities.images.decode import decode, look
from narrows.modalities.images.undecoded import attempt

__all__ = ["image_grid", "read_images", "save_image", "to_batch", "to_uint8", "to_unit"]

logger = logging.getLogger(__name__)


def to_unit(levels: Tensor) -> Tensor:
    """Return levels 0 to 255, uint8 [*], as float32 in [0, 1]."""
    return levels.float() / 255


def to_batch(pixels: Tensor, labels: Tensor | None = None) -> Batch:
    """Return stored images, uint8 [B, C, H, W], with their labels [B], as models read them."""
    return Batch(to_unit(pixels), condition=labels)


def to_uint8(images: Tensor) -> Tensor:
    """Return images in [0, 1] rounded to the levels 0 to 255, uint8 [*]; values outside are clipped.

    Raises:
        DataError: if a value is NaN or infinite.
    """
    images = images.detach().float().cpu()
    if not images.isfinite().all():
        raise DataError("the images have values that are not finite, so they cannot be drawn")
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)


def image_grid(images: Tensor, columns: int, gap: int = 2, scale: int = 1) -> np.ndarray:
    """Return images arranged in a grid, row by row, on white.

    Args:
        images: [N, C, H, W] in [0, 1], C = 1 (grey) or 3 (RGB).
        columns: the number of images in a row; the last row may be shorter.
        gap: the number of pixels between two images.
        scale: integer magnification of the grid.

    Returns:
        uint8 [`scale` (rows (H + gap) - gap), `scale` (columns (W + gap) - gap), 3].
    """
    tiles = to_uint8(images).permute(0, 2, 3, 1).numpy()
    count, height, width, _ = tiles.shape
    rows = math.ceil(count / columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for index, tile in enumerate(tiles):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = tile
    return sheet.repeat(scale, 0).repeat(scale, 1)


def save_image(path: str | Path, image: Tensor | np.ndarray) -> None:
    """Write an image file, complete or not at all; its extension gives the format. PNG is lossless.

    Args:
        path: the file.
        image: a tensor [C, H, W] in [0, 1] with C = 1 or 3, or the uint8 array [H, W, 3] of a grid.

    Raises:
        DataError: if the extension is not that of an image format, or the values are not finite.
    """
    path = Path(path)
    form = Image.registered_extensions().get(path.suffix.lower())
    if form not in Image.SAVE:
        raise DataError(f"{path}: no image format has the extension {path.suffix!r}; use .png")
    pixels = image if isinstance(image, np.ndarray) else to_uint8(image).permute(1, 2, 0).squeeze(-1).numpy()
    with whole_file(path) as aside:
        Image.fromarray(np.ascontiguousarray(pixels)).save(aside, form)


def read_images(paths: Sequence[str | Path], shape: tuple[int, ...]) -> Tensor:
    """Read image files for a model of images of `shape`, scaled and cropped as in training.

    The numbers of images that were scaled, and that were converted to grey or RGB, are logged.

    Args:
        paths: the files.
        shape: (C, H, W).

    Returns:
        uint8 [N, C, H, W].

    Raises:
        DataError: if a file cannot be read; the message names the first one.
    """
    channels, height, width = shape
    images = np.empty((len(paths), *shape), np.uint8)
    scaled = recoloured = 0

    def read(image: Image.Image) -> np.ndarray:
        nonlocal scaled, recoloured
        seen = look(image)
        scaled += (seen.height, seen.width) != (height, width)
        recoloured += seen.grey != (channels == 1)
        return decode(image, shape)

    for index, path in enumerate(paths):
        pixels = attempt(partial(Image.open, path), read)
        if isinstance(pixels, Refused):
            raise DataError(f"{path}: {pixels.reason}")
        images[index] = pixels
    if scaled:
        logger.info("%d of %d images scaled and cropped to the model's %dx%d", scaled, len(paths), height, width)
    if recoloured:
        kind = "grey" if channels == 1 else "RGB"
        logger.info("%d of %d images converted to the model's %s", recoloured, len(paths), kind)
    return torch.from_numpy(images)
