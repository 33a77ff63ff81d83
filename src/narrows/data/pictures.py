"""Convert an opened picture of any mode, orientation and size to pixels, uint8 [C, H, W].

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
    """The facts about a picture needed to choose a common shape: its upright size, and whether it is stored as grey."""

    height: int
    width: int
    grey: bool


def look(picture: Image.Image) -> Look:
    """Return the size and colour of an opened picture without decoding it, unless it has a palette."""
    width, height = picture.size
    # Pillow would decode a whole PNG to find an orientation stored after the pixels, where hardly any program puts it.
    has_exif = picture.format != "PNG" or "exif" in picture.info
    if has_exif and picture.getexif().get(Base.Orientation) in QUARTER_TURNS:
        width, height = height, width
    return Look(height, width, picture.mode in GREY_MODES or _has_grey_palette(picture))


def decode(picture: Image.Image, shape: tuple[int, ...], binary: bool = False) -> np.ndarray:
    """Return the pixels of a picture, turned upright, scaled (antialiased) to cover H x W, and cropped to the centre.

    Args:
        picture: a picture opened by Pillow.
        shape: (C, H, W) with C = 1 (grey) or 3 (RGB).
        binary: set levels below 128 to 0 and the others to 255.

    Returns:
        uint8 [C, H, W].

    Raises:
        DataError: if the range of its pixels is unknown (32-bit integers and floats).
    """
    channels, height, width = shape
    # A JPEG is decoded at 1/2, 1/4 or 1/8 of its size if that is still at least twice the target size.
    picture.draft(None, (2 * max(height, width),) * 2)
    ImageOps.exif_transpose(picture, in_place=True)
    picture = _opaque(picture).convert("L" if channels == 1 else "RGB")
    if picture.size != (width, height):
        picture = ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)
    pixels = np.asarray(picture).reshape(height, width, channels).transpose(2, 0, 1)
    return (pixels >= 128) * np.uint8(255) if binary else pixels


def _has_grey_palette(picture: Image.Image) -> bool:
    if picture.mode != "P":
        return False
    colours = np.reshape(picture.getpalette() or [], (-1, 3))
    return bool((colours == colours[:, :1]).all())


def _opaque(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16"):
        return Image.fromarray(np.rint(np.asarray(picture) / 257).astype(np.uint8))
    if picture.mode in ("I", "F"):
        raise DataError(f"the range of its pixels (mode {picture.mode}) is unknown: save it with 8 or 16 bits")
    if not picture.has_transparency_data:
        return picture
    white = Image.new("RGBA", picture.size, "white")
    white.alpha_composite(picture.convert("RGBA"))
    return white
