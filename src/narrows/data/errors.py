"""What is raised when data cannot be used."""

from __future__ import annotations

from narrows.errors import NarrowsError

__all__ = ["DataError"]


class DataError(NarrowsError):
    """Data that cannot be used; the message names the file or setting and the way out."""
