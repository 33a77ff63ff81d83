"""SHA-256 sums beside the files they are of, in the format of `sha256sum`: damage is noticed, and named, at loading."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from narrows.atomic import flush, whole_file
from narrows.errors import NarrowsError

__all__ = ["SUMS", "DamagedError", "require_intact", "sha256_of", "summed_files"]

SUMS = "SHA256SUMS"
"""The file of sums; `sha256sum -c SHA256SUMS` checks it too."""

NEW = ".new"
"""Where files are written before they replace others."""

logger = logging.getLogger(__name__)


class DamagedError(NarrowsError):
    """A file that is not what was written."""


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextmanager
def summed_files(folder: Path) -> Iterator[Path]:
    """Yield an empty folder to write files into; on success they replace those of `folder`, with their sums.

    Until the last file is replaced the sums name both the old files and the new ones, so that a process killed at any
    moment leaves files that match.
    """
    fresh = folder / NEW
    shutil.rmtree(fresh, ignore_errors=True)  # of a process that was killed
    fresh.mkdir(parents=True)
    try:
        yield fresh
        new = [(sha256_of(file), file.name) for file in sorted(fresh.iterdir())]
        _write(folder, [*_read(folder), *new])
        for _, name in new:
            flush(fresh / name)
            (fresh / name).replace(folder / name)
        flush(folder)
        _write(folder, new)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def require_intact(folder: Path, names: Sequence[str]) -> None:
    """Check files against their sums; a folder written before there were any is reported and taken as it is.

    Raises:
        DamagedError: naming the first file that is missing, or does not match its sum.
    """
    if not (folder / SUMS).exists():
        logger.warning("%s has no %s (an older version wrote it): damage to it would go unnoticed", folder, SUMS)
        return
    sums = _read(folder)
    for name in names:
        listed = {digest for digest, known in sums if known == name}
        if not listed or not (folder / name).is_file() or sha256_of(folder / name) not in listed:
            raise DamagedError(
                f"{folder}/{name} is missing or damaged: it does not match {folder}/{SUMS}; copy the model again, or "
                "continue its run with --resume"
            )


def _read(folder: Path) -> list[tuple[str, str]]:
    """The (sum, file name) pairs of a folder; what cannot be read lists nothing, and so matches nothing."""
    if not (folder / SUMS).is_file():
        return []
    lines = (folder / SUMS).read_text(encoding="utf-8", errors="replace").splitlines()
    return [(digest, name) for digest, _, name in (line.partition("  ") for line in lines)]


def _write(folder: Path, sums: Sequence[tuple[str, str]]) -> None:
    with whole_file(folder / SUMS) as aside:
        aside.write_text("".join(f"{digest}  {name}\n" for digest, name in dict.fromkeys(sums)), encoding="utf-8")
