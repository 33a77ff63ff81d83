"""The error for data that cannot be used."""

from __future__ import annotations

from narrows.errors import NarrowsError

__all__ = ["DataError"]


class DataError(NarrowsError):
    """Raised for data that cannot be used; the message names the file or setting and the remedy."""
