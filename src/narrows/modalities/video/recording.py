"""A recording: frames of one size that follow each other in time, and the actions between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from narrows.data.errors import DataError
from narrows.data.pictures import decode, look

__all__ = ["SAME_RATE", "Fit", "Memory", "Recording", "TooLarge"]

SAME_RATE = 0.01
"""The largest relative difference of two equal frame rates."""


class Recording(NamedTuple):
    """A file of frames, or an episode of one."""

    name: str
    """Its path relative to the source, without the suffix, and the number of the episode."""
    frames: np.ndarray
    """uint8 [T, H, W, 3]."""
    rate: float | None = None
    """Frames per second; None if unknown."""
    actions: np.ndarray | None = None
    """Numbers of actions int64 [T], or vectors float32 [T, D]; that at index t is taken when frame t is seen."""
    may_cut: bool = True
    """Whether there may be cuts within it."""
    action_names: tuple[str, ...] = ()
    """The names of the actions 0, 1, ... by its file; empty if the file does not name them."""


class TooLarge(DataError):
    """Raised for data that do not fit into memory."""


class Memory:
    """Counts decoded frames against a limit.

    Args:
        limit_gb: the limit in GB.
    """

    def __init__(self, limit_gb: float) -> None:
        self.limit_gb, self.used = limit_gb, 0

    def take(self, frames: int) -> None:
        """Count bytes.

        Raises:
            TooLarge: if they are more than the limit.
        """
        self.used += frames
        if self.used > self.limit_gb * 1e9:
            raise TooLarge(
                f"the decoded frames need more than {self.limit_gb:g} GB of memory: lower data.rate or data.size, give "
                "less data, or raise data.memory_limit_gb"
            )


class Fit(NamedTuple):
    """How frames are brought to one size."""

    memory: Memory
    height: int | None = None
    """None keeps the size of the first frame."""
    width: int | None = None
    like: Recording | None = None
    """A recording that all others must have the size of; None for any."""

    def stacked(self, pictures: Iterable[Image.Image]) -> np.ndarray:
        """Return frames of one size, turned upright, scaled and cropped, uint8 [T, H, W, 3].

        Raises:
            DataError: if their sizes differ from each other or from that of `like`, or there are none.
        """
        frames = list(self._each(pictures))
        if not frames:
            raise DataError("it has no frames")
        return np.stack(frames)

    def resized(self, frames: np.ndarray) -> np.ndarray:
        """Return frames uint8 [T, H, W, 3] scaled and cropped.

        Raises:
            DataError: if their size differs from that of `like`.
        """
        height, width = self.height or frames.shape[1], self.width or frames.shape[2]
        self._require_alike(height, width)
        if frames.shape[1:3] != (height, width):
            return self.stacked(map(Image.fromarray, frames))
        self.memory.take(frames.nbytes)
        return frames

    def _each(self, pictures: Iterable[Image.Image]) -> Iterator[np.ndarray]:
        first: tuple[int, int] | None = None
        for index, picture in enumerate(pictures):
            height, width, _ = look(picture)
            first = first or (height, width)
            if (height, width) != first:
                raise DataError(
                    f"its frames change their size: frame {index} has {width}x{height} pixels, the first "
                    f"{first[1]}x{first[0]}"
                )
            shape = 3, self.height or height, self.width or width
            self._require_alike(*shape[1:])
            self.memory.take(shape[0] * shape[1] * shape[2])
            yield decode(picture, shape).transpose(1, 2, 0)

    def _require_alike(self, height: int, width: int) -> None:
        if self.like is not None and (height, width) != (wanted := self.like.frames.shape[1:3]):
            raise DataError(
                f"its frames have {width}x{height} pixels, but those of {self.like.name} {wanted[1]}x{wanted[0]}: "
                "set data.size"
            )
