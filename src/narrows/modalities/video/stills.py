"""Folders of numbered frames, PNG or JPEG files, in the order of their numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from narrows.data.errors import DataError
from narrows.modalities.video.recording import Fit, Recording

__all__ = ["STILLS", "in_order", "read_stills"]

STILLS = (".png", ".jpg", ".jpeg")


def in_order(names: Sequence[str]) -> list[str]:
    """Return names in natural order, in which 9 is before 10."""

    def key(name: str) -> list[tuple[int, str]]:
        parts = re.split(r"(\d+)", name)
        return [(int(part), "") if index % 2 else (0, part) for index, part in enumerate(parts)]

    return sorted(names, key=key)


def read_stills(files: Sequence[Path], name: str, fit: Fit, rate: float | None) -> Recording:
    """Read the files of a folder, in order, as a recording.

    Raises:
        DataError: naming the first file that cannot be read.
    """

    def pictures() -> Iterator[Image.Image]:
        for file in files:
            try:
                with Image.open(file) as picture:
                    picture.load()
                    yield picture
            except UnidentifiedImageError as error:
                raise DataError(f"{file.name} is not an image, or is in an unknown format") from error
            except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
                raise DataError(f"{file.name} cannot be read: {error}") from error

    return Recording(name, fit.stacked(pictures()), rate)
