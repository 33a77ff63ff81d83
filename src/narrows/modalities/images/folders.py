"""A folder of image files: folders named train, validation and test are its splits, the folders below its classes."""

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
    """Whether a file is an image by its name."""
    return file.lower().endswith(EXTENSIONS)


def find_folder(root: Path, files: list[str]) -> Found:
    """Sort the image files of a folder into splits and classes.

    - Folders are splits where their names say so (see `narrows.data.splits.has_splits`), be they at the top or below a
      chain of single folders, as ILSVRC/Data/CLS-LOC/{train,val}; any other folder is one split.
    - An image's class is the first folder above it within its split, below any that all images share. Where every
      image lies equally deep and more than one level of folders varies, it is their whole path, as animals/cat.
    - A split without class folders has no labels. A few images beside class folders are passed over.

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
    depth = _depth_of_splits(images)
    grouped: dict[str, list[str]] = {}
    for file in images:
        split = "train" if depth is None else _split_at(file, depth)
        if split is None:
            foreign.append((str(root / file), "outside the folders train, validation and test"))
        else:
            grouped.setdefault(split, []).append(file)
    if len(grouped) == 1:  # a source of one split is all for training, whatever that is called
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
    """How many folders lie above the splits; None if the source has no splits."""
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
    """What tells the class of a file, whose folders from number `below` on are those within its split."""
    every = [file.split("/")[below:-1] for group in grouped.values() for file in group]
    folders = [names for names in every if names]  # strays above the classes say nothing of them
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
