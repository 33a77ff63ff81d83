"""Read image files into tensors."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from narrows.data.batch import Batch
from narrows.data.errors import DataError
from narrows.data.pictures import decode, look
from narrows.data.pixels import to_unit
from narrows.data.skipped import Refused
from narrows.modalities.images.undecoded import attempt

__all__ = ["read_images", "to_batch"]

logger = logging.getLogger(__name__)


def to_batch(pixels: Tensor, labels: Tensor | None = None) -> Batch:
    """Return stored images, uint8 [B, C, H, W], with their labels [B], as models read them."""
    return Batch(to_unit(pixels), condition=labels)


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
