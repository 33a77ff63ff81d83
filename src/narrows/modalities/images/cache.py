"""Decode all images of a split once, into a uint8 array in memory or, beyond a size limit, in a mapped file.

The file is written under a lock by the first process that needs it, and appears complete or not at all.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock

from narrows.atomic import whole_folder
from narrows.data.errors import DataError
from narrows.data.pictures import decode
from narrows.data.skipped import Refused, Skipped
from narrows.modalities.images.undecoded import Undecoded, each

__all__ = ["Decoded", "decode_into_file", "decode_into_memory"]

VERSION = 1
"""The version of `decode`; increase it when the pixels that `decode` returns change."""

Shape = tuple[int, ...]


class Decoded(NamedTuple):
    """The images of a split that were decoded successfully."""

    pixels: np.ndarray
    """uint8 [N', C, H, W]."""
    kept: np.ndarray
    """Their indices among the split's N images, int64 [N'] in [0, N)."""


def decode_into_memory(
    items: Undecoded, shape: Shape, binary: bool, skipped: Skipped, advance: Callable[[int], None]
) -> Decoded:
    """Decode all images to `shape` (C, H, W); add those that cannot be decoded to `skipped`."""
    pixels = np.empty((len(items), *shape), np.uint8)
    kept: list[int] = []
    for index, image in _decoded(items, shape, binary, skipped, advance):
        pixels[len(kept)] = image
        kept.append(index)
    return Decoded(pixels[: len(kept)], np.array(kept, np.int64))


def decode_into_file(
    items: Undecoded, shape: Shape, binary: bool, skipped: Skipped, advance: Callable[[int], None]
) -> Decoded:
    """Decode all images as `decode_into_memory` does, but into a file mapped copy-on-write.

    The file is in the folder given by NARROWS_CACHE, by default ~/.cache/narrows.

    Raises:
        DataError: if the file cannot be written, or is damaged.
    """
    root = Path(os.environ.get("NARROWS_CACHE", "~/.cache/narrows")).expanduser() / "images"
    key = hashlib.sha256(json.dumps([VERSION, shape, binary, items.stamp()]).encode())
    key.update(items.rows.astype("<i8").tobytes())
    folder = root / key.hexdigest()[:24]
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if folder.exists():
                for name, reason in json.loads((folder / "skipped.json").read_text(encoding="utf-8")):
                    skipped.add(name, reason)
            else:
                _require_room(root, len(items) * math.prod(shape))
                with whole_folder(folder) as aside:
                    _write(aside, items, shape, binary, skipped, advance)
    except OSError as error:
        raise DataError(
            f"the decoded images cannot be written to {root}: {error}; set NARROWS_CACHE to another folder, or "
            "increase data.memory_limit_gb"
        ) from error
    try:
        return Decoded(np.load(folder / "pixels.npy", mmap_mode="c"), np.load(folder / "kept.npy"))
    except (OSError, ValueError) as error:
        raise DataError(f"the decoded images in {folder} are damaged ({error}): delete that folder") from error


def _decoded(
    items: Undecoded, shape: Shape, binary: bool, skipped: Skipped, advance: Callable[[int], None]
) -> Iterator[tuple[int, np.ndarray]]:
    for index, result in enumerate(each(items, partial(decode, shape=shape, binary=binary))):
        if isinstance(result, Refused):
            skipped.add(items.name(int(items.rows[index])), result.reason)
        else:
            yield index, result
        advance(1)


def _write(
    folder: Path, items: Undecoded, shape: Shape, binary: bool, skipped: Skipped, advance: Callable[[int], None]
) -> None:
    already = len(skipped)
    kept: list[int] = []
    with (folder / "pixels.npy").open("wb") as file:

        def head(count: int) -> None:
            file.seek(0)
            # NumPy pads this header, so that the count can be rewritten in place once it is known.
            description = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
            np.lib.format.write_array_header_1_0(file, description)

        head(0)
        for index, image in _decoded(items, shape, binary, skipped, advance):
            file.write(image.tobytes())
            kept.append(index)
        head(len(kept))
    np.save(folder / "kept.npy", np.array(kept, np.int64))
    (folder / "skipped.json").write_text(json.dumps(skipped[already:]), encoding="utf-8")


def _require_room(root: Path, needed: int) -> None:
    free = shutil.disk_usage(root).free
    if needed > free:
        raise OSError(f"they need {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free")
