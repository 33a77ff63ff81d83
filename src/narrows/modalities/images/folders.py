"""A folder of image files: subfolders named train, validation and test are splits, and those below are classes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from narrows.data.errors import DataError
from narrows.data.splits import has_splits, split_of
from narrows.data.walk import stamp_of
from narrows.modalities.images.undecoded import Found, Undecoded

__all__ = ["find_folder", "is_image"]

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def is_image(file: str) -> bool:
    """Return whether the extension of a file is that of an image."""
    return file.lower().endswith(EXTENSIONS)


def find_folder(root: Path, files: list[str]) -> Found:
    """Sort the image files of a folder into splits and classes.

    - Folders with the names of splits (see `narrows.data.splits.has_splits`) are splits, whether at the top or below a
      chain of single folders, such as ILSVRC/Data/CLS-LOC/{train,val}. Otherwise, the whole source is one split.
    - The class of an image is the first folder of its path within the split, below any folders that all images share.
      If all images are equally deep and more than one level of folders varies, the class is the path, such as
      animals/cat.
    - A split without class folders has no labels. A few images beside class folders are skipped.

    Args:
        root: the folder.
        files: paths relative to it, as `walk` returns them.

    Raises:
        DataError: if there are no images.
    """
    foreign = [(str(root / file), "not an image file, by its extension") for file in files if not is_image(file)]
    images = [file for file in files if is_image(file)]
    if not images:
        raise DataError(
            f"{root} has no images: data.source needs a folder of image files ({' '.join(EXTENSIONS)}), of IDX, "
            "Parquet or NumPy files"
        )
    depth = _depth_of_splits(images)
    grouped: dict[str, list[str]] = {}
    for file in images:
        split = "train" if depth is None else _split_at(file, depth)
        if split is None:
            foreign.append((str(root / file), "outside the folders train, validation and test"))
        else:
            grouped.setdefault(split, []).append(file)
    if len(grouped) == 1:  # a single split is used for training, whatever its name
        grouped = {"train": next(iter(grouped.values()))}
    below = 0 if depth is None else depth + 1
    label_of = _labels(grouped, below)
    labels = {split: [label_of(file) for file in group] for split, group in grouped.items()}
    for split, group in grouped.items():
        strays = [file for file, label in zip(group, labels[split], strict=True) if label is None]
        if 0 < 2 * len(strays) < len(group):
            foreign += [(str(root / file), "beside the folders of the classes") for file in strays]
            grouped[split] = [file for file in group if file not in set(strays)]
            labels[split] = [label for label in labels[split] if label is not None]
        elif strays:
            labels[split] = []
    if not labels.get("train", True):
        labels = {split: [] for split in labels}
    classes = sorted({label for group in labels.values() for label in group if label is not None})
    found = {split: _undecoded(root, group, labels[split], classes) for split, group in grouped.items()}
    return Found(found, classes, foreign)


def _depth_of_splits(images: list[str]) -> int | None:
    """Return the number of folders above the splits; None if the source has no splits."""
    folders = [file.split("/")[:-1] for file in images]
    for depth in range(max(map(len, folders), default=0)):
        level = {names[depth] for names in folders if len(names) > depth}
        if has_splits(level):
            return depth
        if len(level) != 1:
            return None
    return None


def _split_at(file: str, depth: int) -> str | None:
    folders = file.split("/")[:-1]
    return split_of(folders[depth]) if len(folders) > depth else None


def _labels(grouped: dict[str, list[str]], below: int) -> Callable[[str], str | None]:
    """Return the function from a file to its class; folders from index `below` on are within the split."""
    every = [file.split("/")[below:-1] for group in grouped.values() for file in group]
    folders = [names for names in every if names]  # images above the class folders carry no information about them
    varied = [depth for depth, level in enumerate(zip(*folders, strict=False)) if len(set(level)) > 1]
    whole = len(set(map(len, folders))) == 1 and len(varied) > 1
    first = varied[0] if varied else 0

    def label_of(file: str) -> str | None:
        own = file.split("/")[below:-1]
        if not own:
            return None
        return "/".join(own) if whole else own[first]

    return label_of


def _undecoded(root: Path, group: list[str], labels: list[str | None], classes: list[str]) -> Undecoded:
    paths = [root / file for file in group]
    codes: dict[str | None, int] = {name: index for index, name in enumerate(classes)}
    return Undecoded(
        rows=np.arange(len(paths)),
        labels=np.array([codes[label] for label in labels], np.int64) if labels else None,
        open=lambda row: Image.open(paths[row]),
        name=lambda row: str(paths[row]),
        identity=lambda row: os.fsencode(group[row]),
        mark=lambda row: os.fsencode(f"{group[row]}\t{paths[row].stat().st_size}"),
        stamp=lambda: stamp_of(paths),
    )
