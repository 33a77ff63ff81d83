"""Arrays of images in NumPy's files: .npy with one array, or .npz with several by name.

An array of images is uint8, [N, H, W] (grey) or [N, H, W, C] with C = 1 (grey), 3 (RGB) or 4 (RGBA).
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from narrows.data.errors import DataError
from narrows.data.pictures import Look
from narrows.data.splits import split_of
from narrows.data.walk import stamp_of
from narrows.modalities.images.hub import labels_of
from narrows.modalities.images.settings import ImageSettings
from narrows.modalities.images.undecoded import Found, Undecoded

__all__ = ["find_arrays", "is_array"]

COLOURS = {1: "grey", 3: "RGB", 4: "RGBA"}
"""Channels that an array may have."""


class _File(NamedTuple):
    """A file: its images, uint8 [N, H, W] or [N, H, W, 3 or 4], and their raw labels [N]."""

    path: Path
    pixels: np.ndarray
    labels: np.ndarray | None


def is_array(file: str) -> bool:
    """Return whether a file has NumPy arrays, by its extension."""
    return file.lower().endswith((".npy", ".npz"))


def find_arrays(root: Path, files: list[str], settings: ImageSettings) -> Found:
    """Find the images of array files by split; a file belongs to the split that its name or folder is named after.

    A single file, and files without such a name if none has one, are used for training; others beside files of splits
    are left out. An array of labels is named by `data.label_column`.

    Args:
        root: the folder.
        files: its array files, relative to it.
        settings: the names of the arrays of images and of labels.

    Raises:
        DataError: if a file cannot be read, or has not exactly one array of images that could be meant.
    """
    grouped: dict[str | None, list[str]] = {}
    for file in files:
        words = re.split(r"[-_./]", file)
        grouped.setdefault(next(filter(None, map(split_of, words)), None), []).append(file)
    foreign = grouped.pop(None, []) if len(grouped) > 1 else []
    if len(grouped) == 1:  # a single split is used for training, whatever its name
        grouped = {"train": next(iter(grouped.values()))}
    parts = {split: [_read(root / file, settings) for file in group] for split, group in grouped.items() if split}
    raw = [part.labels for group in parts.values() for part in group if part.labels is not None]
    values = np.unique(np.concatenate(raw)).tolist() if raw else []
    if all(isinstance(value, int) for value in values):
        values = list(range(max(values, default=-1) + 1))
    found = {split: _undecoded(split, group, values) for split, group in parts.items()}
    reason = "not of a split by its name, beside files that are"
    return Found(found, [str(value) for value in values], [(str(root / file), reason) for file in foreign])


def _read(path: Path, settings: ImageSettings) -> _File:
    try:
        opened = np.load(path, mmap_mode="r" if path.suffix.lower() == ".npy" else None)
        arrays = {"": opened} if isinstance(opened, np.ndarray) else {name: opened[name] for name in opened.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is not a file of NumPy arrays, or is damaged: {error}") from error
    pixels = arrays[_images(path, arrays, settings)]
    labels = None
    if settings.label_column is not None:
        labels = _named(path, arrays, "label_column", settings.label_column)
        if labels.shape != pixels.shape[:1] or labels.dtype.kind not in "iuU":
            raise DataError(
                f"{path}: data.label_column {settings.label_column!r} is {_seen(labels)}; the labels of "
                f"{len(pixels)} images are integers or strings [{len(pixels)}]"
            )
    return _File(path, pixels[..., 0] if pixels.shape[3:] == (1,) else pixels, labels)


def _images(path: Path, arrays: Mapping[str, np.ndarray], settings: ImageSettings) -> str:
    """Return the name of the array of images.

    Raises:
        DataError: if the array that the settings name is none, or they name none and the file has none or several.
    """
    listed = "; ".join(f"{name} {_seen(array)}".strip() for name, array in arrays.items())
    wanted = "images are uint8 [N, H, W] or [N, H, W, C] with C = 1, 3 or 4"
    if settings.image_column is not None:
        array = _named(path, arrays, "image_column", settings.image_column)
        if not _has_images(array):
            raise DataError(f"{path}: data.image_column {settings.image_column!r} is {_seen(array)}; {wanted}")
        return settings.image_column
    found = [name for name, array in arrays.items() if _has_images(array)]
    if not found:
        raise DataError(f"{path} has no array of images: {wanted}, and it has {listed or 'no array'}")
    if len(found) > 1:
        raise DataError(f"{path} has several arrays of images ({', '.join(found)}): set data.image_column to one")
    return found[0]


def _named(path: Path, arrays: Mapping[str, np.ndarray], setting: str, name: str) -> np.ndarray:
    if name not in arrays:
        names = ", ".join(filter(None, arrays)) or "no names, as in every .npy file"
        raise DataError(f"{path}: data.{setting} is {name!r}, but the arrays have {names}")
    return arrays[name]


def _has_images(array: np.ndarray) -> bool:
    shaped = array.ndim == 3 or (array.ndim == 4 and array.shape[3] in COLOURS)
    return array.dtype == np.uint8 and shaped and bool(array.shape[1] and array.shape[2])


def _seen(array: np.ndarray) -> str:
    return f"{array.dtype} {list(array.shape)}"


def _undecoded(split: str, files: list[_File], values: list[int] | list[str]) -> Undecoded:
    starts = np.cumsum([0, *(len(file.pixels) for file in files)])
    raw = [file.labels for file in files if file.labels is not None]
    shapes = {file.pixels.shape[1:] for file in files}

    def at(row: int) -> tuple[_File, int]:
        index = int(np.searchsorted(starts, row, side="right")) - 1
        return files[index], row - int(starts[index])

    def image(row: int) -> Image.Image:
        file, index = at(row)
        return Image.fromarray(file.pixels[index])

    def content(row: int) -> bytes:
        file, index = at(row)
        return file.pixels[index].tobytes()

    def name(row: int) -> str:
        file, index = at(row)
        return f"{file.path} image {index}"

    height, width, *colours = next(iter(shapes))
    return Undecoded(
        rows=np.arange(starts[-1]),
        labels=labels_of(np.concatenate(raw).tolist(), values, f"the {split} split") if raw else None,
        open=image,
        name=name,
        identity=content,
        mark=content,
        stamp=lambda: stamp_of([file.path for file in files]),
        look=Look(height, width, grey=not colours) if len(shapes) == 1 else None,
    )
