"""The names of LAFAN1's files, such as `fallAndGetUp1_subject4.bvh`: an action, its take and a subject.

Source: Harvey et al. 2020, "Robust Motion In-Betweening". Its benchmark tests on subject 5.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Take", "take_of"]

NAME = re.compile(r"(?P<action>[A-Za-z]+)(?P<take>\d+)_(?P<subject>subject\d+)(?:\.[^/]*)?$")


class Take(NamedTuple):
    """A recording of LAFAN1."""

    action: str
    """Such as walk or fallAndGetUp."""
    take: int
    """1 for the first of this action."""
    subject: str
    """Such as subject4."""


def take_of(name: str) -> Take | None:
    """Return what the name of a file tells, with or without folders and suffixes; None if it is not LAFAN1's."""
    found = NAME.fullmatch(name.rpartition("/")[2])
    return Take(found["action"], int(found["take"]), found["subject"]) if found else None
