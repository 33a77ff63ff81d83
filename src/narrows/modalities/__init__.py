"""The kinds of data: one folder for each, with all that is particular to it.

A folder has a module `modality`, whose `MODALITY` is its `narrows.modality.Modality`, and a module `options` with what
it adds to the command line; the latter imports no PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from narrows.errors import NarrowsError

if TYPE_CHECKING:
    from narrows.modality import Modality

__all__ = ["MODALITIES", "find_modality"]

MODALITIES = ("images", "sound", "music", "motion", "video")
"""The names of the folders."""


def find_modality(name: str, origin: str = "modality") -> Modality:
    """Return a kind of data by its name.

    Raises:
        NarrowsError: if there is none of that name; the message lists those there are.
    """
    if name not in MODALITIES:
        raise NarrowsError(f"{origin}: modality is {name!r}; it must be one of {', '.join(MODALITIES)}")
    return import_module(f"narrows.modalities.{name}.modality").MODALITY
