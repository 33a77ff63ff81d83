"""Files of codes, .npz: the codes of one model, and what is needed to make files of them again."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from narrows.atomic import whole_file
from narrows.errors import NarrowsError
from narrows.pretrained import fingerprint

__all__ = ["read_codes", "write_codes"]


def write_codes(out: Path, folder: str, codes: np.ndarray, **others: np.ndarray) -> None:
    """Write `codes`, integers in the smallest type that holds them, and other arrays by name, with the model's mark.

    Raises:
        NarrowsError: if `out` has another ending than .npz.
    """
    require_npz(out)
    if codes.dtype.kind != "f":
        codes = codes.astype(np.min_scalar_type(int(codes.max())))
    with whole_file(out) as aside, aside.open("wb") as file:
        np.savez_compressed(file, **{"codes": codes, "model": np.array(fingerprint(folder)), **others})  # type: ignore[arg-type]


def read_codes(file: Path, folder: str, *names: str) -> list[np.ndarray]:
    """The codes, int64 or the floats of a VAE's latents, and the other arrays of these names.

    Raises:
        NarrowsError: if the file is damaged, or holds another model's codes.
    """
    try:
        with np.load(file) as content:
            codes, others, owner = content["codes"], [content[name] for name in names], str(content["model"])
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise NarrowsError(
            f"{file} is not a file of codes that `narrows encode` wrote, or it is damaged: {error}"
        ) from error
    if owner != fingerprint(folder):
        raise NarrowsError(
            f"{file} holds codes of another model than {folder}: decode it with the model that encoded it"
        )
    return [codes if codes.dtype.kind == "f" else codes.astype(np.int64), *others]


def require_npz(out: Path) -> None:
    """Refuse another ending, before any work.

    Raises:
        NarrowsError: if it has one.
    """
    if out.suffix != ".npz":
        raise NarrowsError(f"--out {out}: codes are written as .npz")
