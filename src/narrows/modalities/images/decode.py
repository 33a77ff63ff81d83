"""Convert an opened image of any mode, orientation and size to pixels, uint8 [C, H, W].

Orientation is the EXIF tag 0x0112 (CIPA DC-008); grey is ITU-R 601 luma; transparent pixels are blended with white.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps
from PIL.ExifTags import Base

from narrows.data.errors import DataError

__all__ = ["Look", "decode", "look"]

GREY_MODES = ("1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N")
QUARTER_TURNS = (5, 6, 7, 8)
"""The EXIF orientations that swap height and width."""


class Look(NamedTuple):
    """The facts about an image needed to choose a common shape: its upright size, and whether it is stored as grey."""

    height: int
    width: int
    grey: bool


def look(image: Image.Image) -> Look:
    """Return the size and colour of an opened image without decoding it, unless it has a palette."""
    width, height = image.size
    # Pillow would decode a whole PNG to find an orientation stored after the pixels, where hardly any program puts it.
    has_exif = image.format != "PNG" or "exif" in image.info
    if has_exif and image.getexif().get(Base.Orientation) in QUARTER_TURNS:
        width, height = height, width
    return Look(height, width, image.mode in GREY_MODES or _has_grey_palette(image))


def decode(image: Image.Image, shape: tuple[int, ...], binary: bool = False) -> np.ndarray:
    """Return the pixels of an image, turned upright, scaled (antialiased) to cover H x W, and cropped to the centre.

    Args:
        image: an image opened by Pillow.
        shape: (C, H, W) with C = 1 (grey) or 3 (RGB).
        binary: set levels below 128 to 0 and the others to 255.

    Returns:
        uint8 [C, H, W].

    Raises:
        DataError: if the range of its pixels is unknown (32-bit integers and floats).
    """
    channels, height, width = shape
    # A JPEG is decoded at 1/2, 1/4 or 1/8 of its size if that is still at least twice the target size.
    image.draft(None, (2 * max(height, width),) * 2)
    ImageOps.exif_transpose(image, in_place=True)
    image = _opaque(image).convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
    pixels = np.asarray(image).reshape(height, width, channels).transpose(2, 0, 1)
    return (pixels >= 128) * np.uint8(255) if binary else pixels


def _has_grey_palette(image: Image.Image) -> bool:
    if image.mode != "P":
        return False
    colours = np.reshape(image.getpalette() or [], (-1, 3))
    return bool((colours == colours[:, :1]).all())


def _opaque(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise DataError(f"the range of its pixels (mode {image.mode}) is unknown: save it with 8 or 16 bits")
    if not image.has_transparency_data:
        return image
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image.convert("RGBA"))
    return white
