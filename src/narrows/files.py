"""Reading the small files of a run folder, which may have been edited or damaged, and naming new files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from narrows.errors import NarrowsError

__all__ = ["distinct_stems", "read_json", "read_text", "read_yaml"]


def read_text(path: Path) -> str:
    """Return the text of a file.

    Raises:
        NarrowsError: if the file cannot be read or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NarrowsError(f"{path} cannot be read: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        NarrowsError: if the file cannot be read or holds no JSON object.
    """
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise error if isinstance(error, NarrowsError) else NarrowsError(f"{path} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise NarrowsError(f"{path} is damaged: it holds no JSON object")
    return content


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the YAML mapping in a file.

    Raises:
        NarrowsError: if the file cannot be read or holds no YAML mapping.
    """
    try:
        content = yaml.safe_load(read_text(path))
    except (yaml.YAMLError, RecursionError) as error:
        raise NarrowsError(f"{path} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise NarrowsError(f"{path} is damaged: it holds no YAML mapping of settings")
    return content


def distinct_stems(names: Sequence[str]) -> list[str]:
    """Return a distinct name for each file: its stem, preceded by its folder or else a number if two would be equal.

    A suffix `.gz` does not count: the stem of a.csv.gz is a.
    """
    paths = [Path(name.removesuffix(".gz")) for name in names]
    stems = [path.stem for path in paths]
    if _collide(stems):
        stems = ["-".join(filter(None, [path.parent.name, path.stem])) for path in paths]
    if _collide(stems):
        stems = [f"{number:03}-{stem}" for number, stem in enumerate(stems)]
    return stems


def _collide(stems: Sequence[str]) -> bool:
    """Whether two names would be the same file, also on disks that ignore case."""
    return len({stem.casefold() for stem in stems}) < len(stems)
