"""The clips of a split, with the features of the actions between their frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from narrows.data.batch import Batch
from narrows.data.clips import Clips
from narrows.data.dataset import Stored
from narrows.data.pixels import to_unit

__all__ = ["VideoClips"]

AT_ONCE = 256
"""The most frames of several clips that are measured or encoded together."""


@dataclass
class VideoClips(Clips):
    """Clips of frames, uint8 [total, H, W, 3].

    Args:
        features: features of the action that led to each frame, float32 [total, C]; C is 0 without actions.
    """

    features: np.ndarray

    def _at(self, which: np.ndarray) -> Self:
        part = super()._at(which)
        spans = [slice(self.offsets[index], self.offsets[index + 1]) for index in which]
        part.features = np.concatenate([self.features[:0], *(self.features[span] for span in spans)])
        return part

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Return the clips of several splits of one data set, one split after another."""
        joined = super().joined(parts)
        joined.features = np.concatenate([part.features for part in parts])
        return joined

    def windows(self, which: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return windows that begin at frames of clips; see `Clips.windows`.

        Returns:
            (frames uint8 [B, W, H, W, 3], features of their actions float32 [B, W, C]).
        """
        begins, lengths = self.spans(which, starts)
        return self.filled(self.values, begins, lengths), self.filled(self.features, begins, lengths)

    def whole(self, at_most: int) -> Iterator[Stored]:
        """Yield all clips in order as `windows` returns them; adjacent ones of one length together, within limits."""
        index = 0
        while index < len(self):
            length = self.lengths[index]
            fit = max(1, min(at_most, AT_ONCE // int(length)))
            alike = 1
            while alike < fit and index + alike < len(self) and self.lengths[index + alike] == length:
                alike += 1
            span = slice(self.offsets[index], self.offsets[index + alike])
            yield tuple(
                torch.from_numpy(part[span].reshape(alike, length, *part.shape[1:]))
                for part in (self.values, self.features)
            )
            index += alike

    def batch(self, frames: Tensor, features: Tensor) -> Batch:
        """Return frames uint8 [B, T, H, W, 3] in [0, 1], [B, 3, T, H, W], with the features float32 [B, T, C] of each.

        There is no mask, because all frames count.
        """
        by_channel = features.transpose(1, 2)[..., None, None] if features.shape[2] else None
        return Batch(self.to_x(frames), features=by_channel)

    @staticmethod
    def to_x(frames: Tensor) -> Tensor:
        """Return frames uint8 [*, T, H, W, 3] as floats in [0, 1], [*, 3, T, H, W]."""
        return to_unit(frames.movedim(-1, -4)).contiguous()
