"""Files of a source that cannot be used: why, and how they are listed for the user."""

from __future__ import annotations

from typing import NamedTuple

from narrows.data.errors import DataError

__all__ = ["Refused", "Skipped", "listed"]


class Refused(NamedTuple):
    """Why a file could not be read."""

    reason: str


class Skipped(list[tuple[str, str]]):
    """The (file, reason) of every file passed over; where `strict`, the first one raises instead."""

    def __init__(self, strict: bool) -> None:
        super().__init__()
        self.strict = strict

    def add(self, name: str, reason: str) -> None:
        """Note a file that is passed over.

        Raises:
            DataError: if strict.
        """
        if self.strict:
            raise DataError(f"{name}: {reason} (data.strict=false skips such files)")
        self.append((name, reason))


def listed(what: str, lines: list[str]) -> list[str]:
    """One note of how many there are and which, or none if there are none."""
    more = [f"and {len(lines) - 10} more"] if len(lines) > 10 else []
    return ["\n  ".join([f"{what}: {len(lines)}", *lines[:10], *more])] if lines else []
