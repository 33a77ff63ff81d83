"""Music that is damaged by removing notes at random, for models that restore it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from narrows.modalities.music.midi import Notes
from narrows.modalities.music.roll import RollLayout

__all__ = ["without_notes"]


def without_notes(
    roll: np.ndarray, layout: RollLayout, share: float, random: Callable[[int], np.ndarray]
) -> np.ndarray:
    """Return a roll uint8 [T, C] from which every note is removed, as a whole, with the probability `share`.

    Args:
        roll: the roll.
        layout: what its values mean.
        share: the probability.
        random: returns as many random numbers in [0, 1) as it is asked for.
    """
    notes = layout.to_notes(roll)
    kept = random(len(notes.pitch)) >= share
    left = layout.to_roll(Notes(*(part[kept] for part in notes)))
    # A note that began before the roll has no start in it.
    return np.minimum(np.pad(left, [(0, len(roll) - len(left)), (0, 0)]), roll)
