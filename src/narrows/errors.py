"""The errors whose message is meant for the user: the command prints it without a traceback."""

from __future__ import annotations

__all__ = ["NarrowsError"]


class NarrowsError(ValueError):
    """Something the user gave cannot be used; the message says what, where, and the way out."""
