"""Files of a source that cannot be used, with reasons, and how to list them for the user."""

from __future__ import annotations

from typing import NamedTuple

from narrows.data.errors import DataError

__all__ = ["Refused", "Skipped", "listed"]


class Refused(NamedTuple):
    """The reason why a file could not be read."""

    reason: str


class Skipped(list[tuple[str, str]]):
    """A list of (file, reason) for each file skipped; if `strict`, the first one raises instead."""

    def __init__(self, strict: bool) -> None:
        super().__init__()
        self.strict = strict

    def add(self, name: str, reason: str) -> None:
        """Record a skipped file.

        Raises:
            DataError: if `strict`.
        """
        if self.strict:
            raise DataError(f"{name}: {reason} (set data.strict=false to skip such files)")
        self.append((name, reason))


def listed(what: str, lines: list[str]) -> list[str]:
    """Return one note with the number of `lines` and the first ten, or no note if there are none."""
    more = [f"and {len(lines) - 10} more"] if len(lines) > 10 else []
    return ["\n  ".join([f"{what}: {len(lines)}", *lines[:10], *more])] if lines else []
