"""Atomic writes: files and folders are written under a temporary name, flushed to disk, then renamed."""

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
    """Yield a temporary path next to `path`; on success the file is renamed to `path`, on any error it is removed.

    Raises:
        IsADirectoryError: if `path` is a folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder, so the file cannot be written", str(path))
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
    """Yield a temporary folder next to `path`; on success it is renamed to `path`, which must not exist yet.

    Args:
        path: the folder to create.
        primary: whether this process creates and renames the folder. If several processes fill it together, only one
            is primary, and the caller synchronises them.
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
    """Remove the temporary files of killed processes in `folder`; no other process may be writing there."""
    for file in folder.glob(".*.tmp"):
        if file.is_file():
            file.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Flush a file or folder from the system's cache to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
