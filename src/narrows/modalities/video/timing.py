"""Frames at even times from frames with timestamps, which may be uneven."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

import numpy as np

__all__ = ["Shown", "resampled", "variation"]

Picture = TypeVar("Picture")

TOLERANCE = 0.25
"""How early a frame may be shown, as a share of the shorter of its predecessor's duration and the time between two
frames of the result; timestamps are rounded."""
UNEVEN = 0.5
"""The largest relative difference between a frame's duration and the median that counts as an even rate."""


class Shown(NamedTuple):
    """When a frame is shown, in seconds."""

    start: float
    end: float


def resampled(frames: Iterable[tuple[Shown, Picture]], rate: float) -> Iterator[Picture]:
    """Yield the frames shown at times 0, 1 / `rate`, 2 / `rate`, ... after the start of the first, at least that.

    Args:
        frames: when each frame is shown, and the frame, in order.
        rate: frames per second to yield.
    """
    count, first = 0, 0.0
    before: tuple[Shown, Picture] | None = None

    def is_shown(start: float, end: float) -> bool:
        return first + count / rate + TOLERANCE * min(end - start, 1 / rate) < end

    for shown, picture in frames:
        if before is None:
            first = shown.start
        while before is not None and is_shown(before[0].start, shown.start):
            yield before[1]
            count += 1
        before = shown, picture
    while before is not None and (not count or is_shown(*before[0])):
        yield before[1]
        count += 1


def variation(shown: list[Shown]) -> tuple[float, float] | None:
    """Return the lowest and highest frame rate, if the durations of frames differ by more than half; else None."""
    starts = np.array([one.start for one in shown])
    steps = np.diff(starts)
    if not len(steps) or (np.abs(steps / np.median(steps) - 1) <= UNEVEN).all():
        return None
    return float(1 / steps.max()), float(1 / max(steps.min(), 1e-3))
