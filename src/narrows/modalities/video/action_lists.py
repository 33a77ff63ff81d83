"""Actions as text, such as `forward*5,right*5`, and as the features of frames."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from narrows.errors import NarrowsError
from narrows.modalities.video.actions import Actions

__all__ = ["UNKNOWN", "features_of_text"]

UNKNOWN = "none"
"""Stands for an unknown action, whose features are zeros."""


def features_of_text(text: str, actions: Actions) -> np.ndarray:
    """Return the features of a list of actions, float32 [N, channels].

    Args:
        text: actions with commas between them: a name or a number, or a vector as numbers with colons between them,
            such as `0.5:-1`, or `none` for an unknown action; each may be followed by `*` and how often it is repeated.
        actions: the actions of the model's data.

    Raises:
        NarrowsError: if there is no such action, or a count is not a whole number of at least 1.
    """
    if not actions.channels:
        raise NarrowsError(f"--actions {text}: the model was trained on videos without actions; leave it out")
    return np.concatenate([np.tile(_features(name, actions), (count, 1)) for name, count in _parts(text)])


def _parts(text: str) -> Iterator[tuple[str, int]]:
    for part in text.split(","):
        name, star, count = part.strip().rpartition("*")
        if not star:
            name, count = count, "1"
        if not count.isdecimal() or int(count) < 1:
            raise NarrowsError(f"--actions {text}: {count!r} is not how often to repeat an action, as 5 in {name}*5")
        yield name.strip(), int(count)


def _features(name: str, actions: Actions) -> np.ndarray:
    """Return the features of an action, float32 [1, channels]."""
    if name == UNKNOWN:
        return np.zeros((1, actions.channels), np.float32)
    if actions.size:
        return actions.encoded(_vector(name, actions.size))
    if name in actions.names:
        number = actions.names.index(name)
    elif name.isdecimal() and int(name) < len(actions.names):
        number = int(name)
    else:
        raise NarrowsError(f"--actions: no action {name!r}; there are {actions.about}, and {UNKNOWN!r} for unknown")
    return actions.encoded(np.array([number]))


def _vector(text: str, size: int) -> np.ndarray:
    """Return the vector that a text is, float32 [1, size]."""
    try:
        vector = [float(part) for part in text.split(":")]
    except ValueError:
        vector = []
    if len(vector) != size or not all(map(math.isfinite, vector)):
        example = ":".join(["0.5"] * size)
        raise NarrowsError(f"--actions: {text!r} is no action of {size} numbers: write it as {example}, or {UNKNOWN!r}")
    return np.array([vector], np.float32)
