"""Windows of held-out music that the training music has, too: songs repeat themselves."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from narrows.modalities.music.rolls import Rolls

__all__ = ["repeated_windows"]


def repeated_windows(train: Rolls, examples: Rolls, window: int) -> float:
    """Return the share of the windows of `examples` that are anywhere in the training music, value for value.

    Args:
        train: the training music.
        examples: other music; its windows do not overlap, and incomplete ones are left out.
        window: steps of a window.
    """
    _, numbers = np.unique(np.concatenate([train.values, examples.values]), axis=0, return_inverse=True)
    known, asked = np.split(numbers.astype(np.int32).ravel(), [len(train.values)])
    seen = set(_windows(known, train.offsets, window, 1))
    repeated = [stretch in seen for stretch in _windows(asked, examples.offsets, window, window)]
    return sum(repeated) / max(1, len(repeated))


def _windows(steps: np.ndarray, offsets: np.ndarray, window: int, stride: int) -> Iterator[bytes]:
    """Yield the windows of stretches, whose steps are numbers, int32 [total]."""
    for first, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        for start in range(first, end - window + 1, stride):
            yield steps[start : start + window].tobytes()
