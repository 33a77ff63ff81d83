"""List the files of a folder, and detect changes in them."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["stamp_of", "walk"]


def walk(root: Path) -> list[str]:
    """Return all files below a folder, relative to it and sorted; links are followed once, hidden files left out."""
    files, seen = [], {root.resolve()}

    def is_new(folder: Path) -> bool:
        real = folder.resolve()
        known = real in seen
        seen.add(real)
        return not known

    for parent, folders, names in os.walk(root, followlinks=True):
        place = Path(parent)
        folders[:] = [name for name in sorted(folders) if not name.startswith(".") and is_new(place / name)]
        files += [(place / name).relative_to(root).as_posix() for name in names if not name.startswith(".")]
    return sorted(files)


def stamp_of(files: list[Path]) -> str:
    """Return text that changes when a file is renamed, resized or written again."""
    return "\n".join(f"{file}\t{status.st_size}\t{status.st_mtime_ns}" for file in files for status in [file.stat()])
