"""Reading the small files of a run folder, which anyone may have edited or damaged: an error names the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from narrows.errors import NarrowsError

__all__ = ["read_json", "read_text", "read_yaml"]


def read_text(path: Path) -> str:
    """Return the text of a file.

    Raises:
        NarrowsError: if it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NarrowsError(f"{path} cannot be read: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        NarrowsError: if it cannot be read, or holds none.
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
        NarrowsError: if it cannot be read, or holds none.
    """
    try:
        content = yaml.safe_load(read_text(path))
    except (yaml.YAMLError, RecursionError) as error:
        raise NarrowsError(f"{path} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise NarrowsError(f"{path} is damaged: it holds no YAML mapping of settings")
    return content
