"""IDX files, the format of MNIST.

A file has the bytes 00 00 08 (for unsigned bytes), the number of dimensions, the sizes and the values. Source: the
description of the format on the MNIST page (LeCun, Cortes, Burges).
"""

from __future__ import annotations

import gzip
import math
import re
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from narrows.data.errors import DataError
from narrows.data.pictures import Look
from narrows.data.splits import split_of
from narrows.data.walk import stamp_of
from narrows.modalities.images.undecoded import Found, Undecoded

__all__ = ["find_idx", "is_idx_images", "read_idx"]


def is_idx_images(file: str) -> bool:
    """Return whether a file has IDX images, by its name, such as `train-images-idx3-ubyte.gz`."""
    return re.search(r"images[-.]idx3-ubyte(\.gz)?$", file) is not None


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Read an IDX file of unsigned bytes, gzipped or not.

    Args:
        path: the file.
        dimensions: 3 for images [N, H, W], 1 for labels [N].

    Raises:
        DataError: if it is not an IDX file of that number of dimensions, or is cut short or damaged.
    """
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}; download it again") from error
    magic = bytes((0, 0, 8, dimensions))
    if content[:4] != magic:
        raise DataError(
            f"{path} is not an IDX file of {dimensions} dimensions: it starts with {content[:4]!r}, not {magic!r}"
        )
    start = 4 + 4 * dimensions
    shape = [int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4)]
    if len(content) - start != math.prod(shape):
        raise DataError(f"{path} should have {shape} bytes of values but has {len(content) - start}; download it again")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def find_idx(root: Path, files: list[str]) -> Found:
    """Find the IDX images of a folder by split, with the labels in the files beside them.

    Args:
        root: the folder.
        files: its files with IDX images, relative to it; a single file is used for training, whatever its name.

    Raises:
        DataError: if two files are of the same split, or the labels do not match the images.
    """
    plain = [file for file in files if file.removesuffix(".gz") == file or file.removesuffix(".gz") not in files]
    splits: dict[str, Path] = {}
    for file in plain:
        words = re.split(r"[-_.]", Path(file).name)
        split = "train" if len(plain) == 1 else next(filter(None, map(split_of, words)), None)
        if split is None or split in splits:
            raise DataError(f"{root} has several IDX data sets ({', '.join(plain)}): give one file as data.source")
        splits[split] = root / file
    found = {split: _split(path) for split, path in splits.items()}
    highest = max(
        (int(items.labels.max(initial=-1)) for items in found.values() if items.labels is not None), default=-1
    )
    return Found(found, [str(label) for label in range(highest + 1)])


def _split(path: Path) -> Undecoded:
    pixels, labels = read_idx(path, 3), None
    stem = path.name.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1")
    beside = [file for name in (stem, f"{stem}.gz") if (file := path.with_name(name)).exists()]
    if beside:
        labels = read_idx(beside[0], 1).astype(np.int64)
        if len(labels) != len(pixels):
            raise DataError(f"{beside[0]} has {len(labels)} labels for the {len(pixels)} images of {path}")
    return Undecoded(
        rows=np.arange(len(pixels)),
        labels=labels,
        open=lambda row: Image.fromarray(pixels[row]),
        name=lambda row: f"{path} image {row}",
        identity=lambda row: pixels[row].tobytes(),
        mark=lambda row: pixels[row].tobytes(),
        stamp=lambda: stamp_of([path]),
        look=Look(pixels.shape[1], pixels.shape[2], grey=True),
    )
