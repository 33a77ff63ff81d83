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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from narrows.atomic import whole_file
from narrows.errors import NarrowsError
from narrows.pretrained import fingerprint

__all__ = ["CodesOfFiles", "distinct_stems", "read_codes", "require_npz", "write_codes"]

FORMAT = 2


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
        "format": np.array(FORMAT),
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
        version = int(content.get("format", 1))
        owner = str(content["model"])
        if version == FORMAT and str(content.pop("sha256")) != _sum(content):
            raise ValueError("its content does not match its SHA-256")
        coded = _FORMATS[version](content) if version in _FORMATS else None
    except Exception as error:  # a damaged file makes zip, zlib and numpy fail in any way at all
        raise NarrowsError(
            f"{file} is not a file of codes that `narrows encode` wrote, or it is damaged: {error}"
        ) from error
    if coded is None:
        raise NarrowsError(f"{file} has format {version}, of a newer version of narrows: update it to read the file")
    if owner != fingerprint(folder):
        raise NarrowsError(
            f"{file} holds codes of another model than {folder}: decode it with the model that encoded it"
        )
    return coded


def distinct_stems(names: Sequence[str]) -> list[str]:
    """Name files after others: by their stems, with their folder where two would be equal, or else with a number."""
    stems = [Path(name).stem for name in names]
    if _collide(stems):
        stems = ["-".join(filter(None, [Path(name).parent.name, Path(name).stem])) for name in names]
    if _collide(stems):
        stems = [f"{number:03}-{stem}" for number, stem in enumerate(stems)]
    return stems


def require_npz(out: Path) -> None:
    """Refuse another ending, before any work.

    Raises:
        NarrowsError: if it has one.
    """
    if out.suffix != ".npz":
        raise NarrowsError(f"--out {out}: codes are written as .npz")


def _second_format(content: Mapping[str, np.ndarray]) -> CodesOfFiles:
    codes, axis = content["codes"], int(content["codes"].dtype.kind == "f")
    parts = [part.take(range(length), axis) for part, length in zip(codes, content["lengths"], strict=True)]
    return CodesOfFiles(_widened(parts), [tuple(size) for size in content["sizes"].tolist()], content["names"].tolist())


def _first_format(content: Mapping[str, np.ndarray]) -> CodesOfFiles:
    """Read the layout before there was a `format`: images as now, sounds one after another with their positions first.

    Images kept no size, which is that of the model.
    """
    codes, names = content["codes"], content["names"].tolist()
    if "lengths" not in content:
        return CodesOfFiles(_widened(list(codes)), [()] * len(codes), names)
    parts = np.split(codes, np.cumsum(content["lengths"])[:-1])
    parts = [part.T for part in parts] if codes.dtype.kind == "f" else parts
    return CodesOfFiles(_widened(parts), [(samples,) for samples in content["samples"].tolist()], names)


_FORMATS = {1: _first_format, FORMAT: _second_format}


def _widened(parts: list[np.ndarray]) -> list[np.ndarray]:
    return [part if part.dtype.kind == "f" else part.astype(np.int64) for part in parts]


def _lengthened(part: np.ndarray, axis: int, length: int) -> np.ndarray:
    missing = [(0, length - part.shape[axis] if dimension == axis else 0) for dimension in range(part.ndim)]
    return np.pad(part, missing)


def _collide(stems: Sequence[str]) -> bool:
    """Whether two names would be one file, on disks too that ignore case."""
    return len({stem.casefold() for stem in stems}) < len(stems)


def _sum(content: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(content.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
