"""A folder of image files: sub-folders named train, validation and test are its splits, the next level its classes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from narrows.data.errors import DataError
from narrows.data.undecoded import Found, Undecoded, split_of

__all__ = ["find_folder", "is_image", "stamp_of", "walk"]

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def is_image(file: str) -> bool:
    """Whether a file is an image by its name."""
    return file.lower().endswith(EXTENSIONS)


def walk(root: Path) -> list[str]:
    """The files below a folder, relative to it and sorted; links are followed once, hidden files left out."""
    files, seen = [], {root.resolve()}

    def is_new(folder: Path) -> bool:
        real = folder.resolve()
        known = real in seen
        seen.add(real)
        return not known

    for parent, folders, names in os.walk(root, followlinks=True):
        place = Path(parent)
        folders[:] = [name for name in sorted(folders) if not name.startswith(".") and is_new(place / name)]
        files += [(place / name).relative_to(root).as_posix() for name in names if not name.startswith(".")]
    return sorted(files)


def stamp_of(files: list[Path]) -> str:
    """Text that changes when a file is renamed, resized or written again."""
    return "\n".join(f"{file}\t{status.st_size}\t{status.st_mtime_ns}" for file in files for status in [file.stat()])


def find_folder(root: Path, files: list[str]) -> Found:
    """Sort the image files of a folder into splits and classes.

    A folder with a sub-folder `train` has splits; any other is one split. An image's class is the first folder above
    it within its split; a split with images outside such folders has no labels.

    Args:
        root: the folder.
        files: paths relative to it, as `walk` gives them.

    Raises:
        DataError: if there is no image.
    """
    foreign = [(str(root / file), "not an image file by its name") for file in files if not is_image(file)]
    images = [file for file in files if is_image(file)]
    if not images:
        raise DataError(
            f"{root} holds no image: data.source takes a folder of image files ({' '.join(EXTENSIONS)}), of IDX or of "
            "Parquet files"
        )
    grouped: dict[str, list[tuple[str, str | None]]] = {}
    has_splits = any(split_of(file.split("/")[0]) == "train" for file in images if "/" in file)
    for file in images:
        *folders, _ = file.split("/")
        split: str | None = "train"
        if has_splits:
            split = split_of(folders.pop(0)) if folders else None
        if split is None:
            foreign.append((str(root / file), "outside the folders train, validation and test"))
        else:
            grouped.setdefault(split, []).append((file, folders[0] if folders else None))
    classes = sorted({label for group in grouped.values() for _, label in group if label is not None})
    return Found({split: _split(root, group, classes) for split, group in grouped.items()}, classes, foreign)


def _split(root: Path, group: list[tuple[str, str | None]], classes: list[str]) -> Undecoded:
    paths = [root / file for file, _ in group]
    codes = {name: index for index, name in enumerate(classes)}
    labels = [codes[label] for _, label in group if label is not None]
    return Undecoded(
        rows=np.arange(len(paths)),
        labels=np.array(labels, np.int64) if len(labels) == len(paths) else None,
        open=lambda row: Image.open(paths[row]),
        name=lambda row: str(paths[row]),
        stamp=lambda: stamp_of(paths),
    )
