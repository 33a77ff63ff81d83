"""Files of codes, .npz: the codes of one model, and what is needed to make files of them again.

One layout for every kind of data, read by `numpy.load` without this package:

codes    what `model.encode` returns for the files as one batch: integers [N, *grid], or [N, *grid, M] with M > 1 codes
         a position, in the smallest type that holds them; the mean latents float32 [N, C, *grid] of a continuous model.
         Files of different lengths are filled up with zeros at the end of the first dimension of the grid.
lengths  how many positions of that dimension belong to each file, int64 [N]
sizes    the size that each file is decoded to, int64 [N, D]: (height, width) of images, (samples,) of sound
names    the files as they were given, [N]
model    the SHA-256 of the model's weights
format   the version of this layout, 2
sha256   the sum of all the above
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
    """Codes, file by file."""

    codes: list[np.ndarray]
    """Of each file, int64 [*grid] or [*grid, M]; latents float32 [C, *grid]."""
    sizes: list[tuple[int, ...]]
    """What each is decoded to."""
    names: list[str]
    """The files as they were given."""


def write_codes(out: Path, folder: str, coded: CodesOfFiles) -> np.ndarray:
    """Write the codes of files that the model in `folder` made, and return them as they are written.

    Raises:
        NarrowsError: if `out` has another ending than .npz.
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
    """Read the codes of files that the model in `folder` made.

    Raises:
        NarrowsError: if the file is damaged, of a newer format, or holds another model's codes.
    """
    try:
        with np.load(file) as opened:
            content = {name: opened[name] for name in opened.files}
        version, owner = int(content.get("format", 1)), str(content["model"])
        if version == FORMATS["codes"] and str(content.pop("sha256")) != _sum(content):
            raise ValueError("its content does not match its SHA-256")
        if version <= FORMATS["codes"]:
            coded = _files(migrate("codes", {**content, "format": version}, str(file)))
    except Exception as error:  # a damaged file makes zip, zlib and numpy fail in any way at all
        raise NarrowsError(
            f"{file} is not a file of codes that `narrows encode` wrote, or it is damaged: {error}"
        ) from error
    if version > FORMATS["codes"]:
        migrate("codes", {"format": version}, str(file))
    if owner != fingerprint(folder):
        raise NarrowsError(
            f"{file} holds codes of another model than {folder}: decode it with the model that encoded it"
        )
    return coded


def require_npz(out: Path) -> None:
    """Refuse another ending, before any work.

    Raises:
        NarrowsError: if it has one.
    """
    if out.suffix != ".npz":
        raise NarrowsError(f"--out {out}: codes are written as .npz")


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
