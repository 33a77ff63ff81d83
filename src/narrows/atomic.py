"""Files appear whole or not at all: written beside their place, flushed to disk, then renamed."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["flush", "remove_leftovers", "whole_file", "whole_folder"]


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; on success it becomes `path`, on any error it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder, and a file is to be written there", str(path))
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield aside
        flush(aside)
        aside.replace(path)
        flush(path.parent)
    except OSError as error:
        if error.filename == str(aside):
            error.filename = str(path)
        raise
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path, primary: bool = True) -> Iterator[Path]:
    """Yield a folder beside `path` to fill; on success it becomes `path`, which must not exist yet.

    Args:
        path: the folder to make.
        primary: whether this process is the one that makes and renames it, where several fill it together; the
            caller keeps them in step.
    """
    aside = path.with_name(f".{path.name}.tmp")
    if primary:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
    try:
        yield aside
        if primary:
            for file in aside.rglob("*"):
                flush(file)
            aside.replace(path)
            flush(path.parent)
    finally:
        if primary:
            shutil.rmtree(aside, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what writers of files in `folder` left behind that were killed, where no other writer is at work."""
    for file in folder.glob(".*.tmp"):
        if file.is_file():
            file.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Write what the system still holds of a file or a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
