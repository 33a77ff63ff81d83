"""SHA-256 sums next to files, in the format of `sha256sum`, so that loading detects and names damaged files."""

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
"""Name of the file of sums, which `sha256sum -c SHA256SUMS` can also check."""

NEW = ".new"
"""Name of the folder in which files are written before they replace others."""

logger = logging.getLogger(__name__)


class DamagedError(NarrowsError):
    """Error for a file that is missing or has changed since it was written."""


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextmanager
def summed_files(folder: Path) -> Iterator[Path]:
    """Yield an empty folder to write files into; on success they replace those of `folder`, and their sums are written.

    Until the last file is replaced, the sums list both the old and the new files, so the files match even if the
    process is killed.
    """
    fresh = folder / NEW
    shutil.rmtree(fresh, ignore_errors=True)  # left by a killed process
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
    """Check files against their sums; a folder without sums, written by an older version, only gives a warning.

    Raises:
        DamagedError: if a file is missing or does not match its sum; names the first such file.
    """
    if not (folder / SUMS).exists():
        logger.warning("%s has no %s (an older version wrote it), so damage cannot be detected", folder, SUMS)
        return
    sums = _read(folder)
    for name in names:
        listed = {digest for digest, known in sums if known == name}
        if not listed or not (folder / name).is_file() or sha256_of(folder / name) not in listed:
            raise DamagedError(
                f"{folder}/{name} is missing or damaged, because it does not match {folder}/{SUMS}: copy the model "
                "again, or continue its run with --resume"
            )


def _read(folder: Path) -> list[tuple[str, str]]:
    """Return the (sum, file name) pairs of a folder; lines that cannot be parsed match no file."""
    if not (folder / SUMS).is_file():
        return []
    lines = (folder / SUMS).read_text(encoding="utf-8", errors="replace").splitlines()
    return [(digest, name) for digest, _, name in (line.partition("  ") for line in lines)]


def _write(folder: Path, sums: Sequence[tuple[str, str]]) -> None:
    with whole_file(folder / SUMS) as aside:
        aside.write_text("".join(f"{digest}  {name}\n" for digest, name in dict.fromkeys(sums)), encoding="utf-8")
