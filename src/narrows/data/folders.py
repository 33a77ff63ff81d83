"""A folder of image files: folders named train, validation and test are its splits, the folders below its classes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from narrows.data.errors import DataError
from narrows.data.splits import has_splits, split_of
from narrows.data.undecoded import Found, Undecoded

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

    - Folders are splits where their names say so (see `narrows.data.splits.has_splits`), be they at the top or below a
      chain of single folders, as ILSVRC/Data/CLS-LOC/{train,val}; any other folder is one split.
    - An image's class is the first folder above it within its split. Where every image lies equally deep and more
      than one level of folders varies, it is their whole path, as animals/cat.
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
    return Found(found, classes, foreign, _only_elsewhere(labels))


def _depth_of_splits(images: list[str]) -> int | None:
    """How many folders lie above the splits; None if the source has no splits."""
    folders = [file.split("/")[:-1] for file in images]
    for depth in range(min(map(len, folders), default=0) + 1):
        level = {names[depth] for names in folders if len(names) > depth}
        if has_splits(level):
            return depth
        if len(level) != 1 or any(len(names) <= depth for names in folders):
            return None
    return None


def _split_at(file: str, depth: int) -> str | None:
    folders = file.split("/")[:-1]
    return split_of(folders[depth]) if len(folders) > depth else None


def _labels(grouped: dict[str, list[str]], below: int) -> Callable[[str], str | None]:
    """What tells the class of a file, whose folders from number `below` on are those within its split."""
    folders = [file.split("/")[below:-1] for group in grouped.values() for file in group]
    levels = [level for level in zip(*folders, strict=False) if len(set(level)) > 1]
    whole = len(set(map(len, folders))) == 1 and len(levels) > 1

    def label_of(file: str) -> str | None:
        own = file.split("/")[below:-1]
        if not own:
            return None
        return "/".join(own) if whole else own[0]

    return label_of


def _only_elsewhere(labels: dict[str, list[str | None]]) -> list[str]:
    trained = set(labels.get("train", []))
    others = {split: sorted({str(label) for label in group} - trained) for split, group in labels.items()}
    if not trained:
        return []
    return [
        f"classes without a training image, only in {split}: {', '.join(names)}"
        for split, names in others.items()
        if names
    ]


def _undecoded(root: Path, group: list[str], labels: list[str | None], classes: list[str]) -> Undecoded:
    paths = [root / file for file in group]
    codes: dict[str | None, int] = {name: index for index, name in enumerate(classes)}
    return Undecoded(
        rows=np.arange(len(paths)),
        labels=np.array([codes[label] for label in labels], np.int64) if labels else None,
        open=lambda row: Image.open(paths[row]),
        name=lambda row: str(paths[row]),
        identity=lambda row: group[row].encode(),
        mark=lambda row: f"{group[row]}\t{paths[row].stat().st_size}".encode(),
        stamp=lambda: stamp_of(paths),
    )
