"""Code files, .npz: the codes that a model made of files, with all that is needed to decode them.

The layout is the same for every kind of data and can be read by `numpy.load` without this package:

codes    the result of `model.encode` for the files as one batch: integers [N, *grid], or [N, *grid, M] for M > 1 codes
         per position, in the smallest integer type that fits; for a continuous model, mean latents float32
         [N, C, *grid]. Files of different lengths are zero-padded at the end of the first dimension of the grid.
lengths  the number of positions of each file along that dimension, int64 [N]
sizes    the size that each file is decoded to, int64 [N, D]: (height, width) of images, (samples,) of sound
names    the file paths as given, [N]
model    the SHA-256 of the model's weights
format   the version of this layout, 2
sha256   the SHA-256 of all of the above
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from narrows.atomic import whole_file
from narrows.errors import NarrowsError
from narrows.migrations import FORMATS, migrate
from narrows.pretrained import fingerprint

__all__ = ["CodesOfFiles", "read_codes", "require_npz", "write_codes"]


class CodesOfFiles(NamedTuple):
    """The codes of several files."""

    codes: list[np.ndarray]
    """The codes of each file, int64 [*grid] or [*grid, M]; or latents float32 [C, *grid]."""
    sizes: list[tuple[int, ...]]
    """The size that each file is decoded to."""
    names: list[str]
    """The file paths as given."""


def write_codes(out: Path, folder: str, coded: CodesOfFiles) -> np.ndarray:
    """Write the codes that the model in `folder` made of files, and return the array written.

    Raises:
        NarrowsError: if `out` does not end in .npz.
    """
    require_npz(out)
    axis = int(coded.codes[0].dtype.kind == "f")
    lengths = [len(np.moveaxis(part, axis, 0)) for part in coded.codes]
    filled = np.stack([_lengthened(part, axis, max(lengths)) for part in coded.codes])
    if filled.dtype.kind != "f":
        filled = filled.astype(np.min_scalar_type(int(filled.max())))
    content = {
        "codes": filled,
        "lengths": np.array(lengths, np.int64),
        "sizes": np.array(coded.sizes, np.int64),
        "names": np.array(coded.names),
        "model": np.array(fingerprint(folder)),
        "format": np.array(FORMATS["codes"]),
    }
    with whole_file(out) as aside, aside.open("wb") as file:
        np.savez_compressed(file, **content, sha256=np.array(_sum(content)))  # type: ignore[arg-type]
    return filled


def read_codes(file: Path, folder: str) -> CodesOfFiles:
    """Read the codes that the model in `folder` made of files.

    Raises:
        NarrowsError: if the file is damaged, has a newer format, or has the codes of another model.
    """
    try:
        with np.load(file) as opened:
            content = {name: opened[name] for name in opened.files}
        version, owner = int(content.get("format", 1)), str(content["model"])
        if version == FORMATS["codes"] and str(content.pop("sha256")) != _sum(content):
            raise ValueError("its content does not match its SHA-256")
        if version <= FORMATS["codes"]:
            coded = _files(migrate("codes", {**content, "format": version}, str(file)))
    except Exception as error:  # a damaged file can make zip, zlib and NumPy raise anything
        raise NarrowsError(
            f"{file} is not a file of codes written by `narrows encode`, or is damaged: {error}"
        ) from error
    if version > FORMATS["codes"]:
        migrate("codes", {"format": version}, str(file))
    if owner != fingerprint(folder):
        raise NarrowsError(
            f"{file} has the codes of another model than {folder}: decode it with the model that encoded it"
        )
    return coded


def require_npz(out: Path) -> None:
    """Check, before any work, that `out` ends in .npz.

    Raises:
        NarrowsError: if it does not.
    """
    if out.suffix != ".npz":
        raise NarrowsError(f"--out {out}: codes are written as .npz, so the name must end in .npz")


def _files(content: Mapping[str, Any]) -> CodesOfFiles:
    codes, axis = content["codes"], int(content["codes"].dtype.kind == "f")
    parts = [part.take(range(length), axis) for part, length in zip(codes, content["lengths"], strict=True)]
    widened = [part if part.dtype.kind == "f" else part.astype(np.int64) for part in parts]
    return CodesOfFiles(widened, [tuple(size) for size in content["sizes"].tolist()], content["names"].tolist())


def _lengthened(part: np.ndarray, axis: int, length: int) -> np.ndarray:
    missing = [(0, length - part.shape[axis] if dimension == axis else 0) for dimension in range(part.ndim)]
    return np.pad(part, missing)


def _sum(content: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(content.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
