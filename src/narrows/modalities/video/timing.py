"""Frames at even times from frames with timestamps, which may be uneven."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

import numpy as np

__all__ = ["Shown", "resampled", "variation"]

Picture = TypeVar("Picture")

TOLERANCE = 0.25
"""How early a frame may be shown, as a share of the time between two frames of the result; timestamps are rounded."""
UNEVEN = 0.5
"""The largest relative difference between a frame's duration and the median that counts as an even rate."""


class Shown(NamedTuple):
    """When a frame is shown, in seconds."""

    start: float
    end: float


def resampled(frames: Iterable[tuple[Shown, Picture]], rate: float) -> Iterator[Picture]:
    """Yield the frames shown at times 0, 1 / `rate`, 2 / `rate`, ... after the start of the first.

    Args:
        frames: when each frame is shown, and the frame, in order.
        rate: frames per second to yield.
    """
    count, first = 0, None
    before: tuple[Shown, Picture] | None = None
    for shown, picture in frames:
        first = shown.start if first is None else first
        while before is not None and first + (count + TOLERANCE) / rate < shown.start:
            yield before[1]
            count += 1
        before = shown, picture
    while before is not None and first is not None and first + (count + TOLERANCE) / rate < before[0].end:
        yield before[1]
        count += 1


def variation(shown: list[Shown]) -> tuple[float, float] | None:
    """Return the lowest and highest frame rate, if the durations of frames differ by more than half; else None."""
    starts = np.array([one.start for one in shown])
    steps = np.diff(starts)
    if not len(steps) or (np.abs(steps / np.median(steps) - 1) <= UNEVEN).all():
        return None
    return float(1 / steps.max()), float(1 / max(steps.min(), 1e-3))
