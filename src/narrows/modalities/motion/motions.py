"""The motions of a split, and training windows of them in random order."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from narrows.data.batch import Batch
from narrows.data.dataset import Stored
from narrows.data.errors import DataError
from narrows.data.loader import BatchPlan, Loader, places
from narrows.data.sequences import Sequences
from narrows.modalities.motion.standardised import Standardised

__all__ = ["Motions"]


@dataclass
class Motions(Sequences):
    """Clips of the motions of a split, as features float32 [total, C].

    Args:
        sources: the number of the sequence that each clip is of, int64 [N].
        begins: the frame of its sequence at which each clip begins, int64 [N].
        stride: frames from the start of one training window to the next.
        scale: how features become model inputs.
    """

    sources: np.ndarray
    begins: np.ndarray
    stride: int
    scale: Standardised

    def _at(self, which: np.ndarray) -> Motions:
        part = super()._at(which)
        part.sources, part.begins = self.sources[which], self.begins[which]
        return part

    @classmethod
    def joined(cls, parts: list[Motions]) -> Motions:  # type: ignore[override]
        """Return the clips of several splits of one data set, one split after another."""
        joined = super().joined(parts)
        joined.sources = np.concatenate([part.sources for part in parts])
        joined.begins = np.concatenate([part.begins for part in parts])
        return joined

    def numbered(self, classes: list[str]) -> Motions:
        """Return the same clips with labels that are indices into `classes`; -1 where there is none."""
        return super().numbered(classes) if self.classes else self.relabelled(classes, None)

    @property
    def starts(self) -> tuple[np.ndarray, np.ndarray]:
        """The first clip and, from its start, the first frame of every training window, int64 [M] each.

        Windows may reach over several clips that follow each other in a sequence. What is shorter than a window gives
        one window.
        """
        ends = self.begins + self.lengths
        follows = (self.sources[1:] == self.sources[:-1]) & (self.begins[1:] == ends[:-1])
        first = np.flatnonzero(np.append(True, ~follows)) if len(self) else np.zeros(0, np.int64)
        total = np.diff(np.append(self.offsets[first], self.offsets[-1]))
        counts = np.maximum(total - self.window, 0) // self.stride + 1
        which = np.repeat(first, counts)
        number = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
        return which, number * self.stride

    def windows(self, which: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return windows that begin at frames of clips, from `starts`; see `Sequences.windows`."""
        last = self.ends
        begins = self.offsets[which] + starts
        lengths = np.minimum(last[which] - begins, self.window)
        windows = np.zeros((len(which), self.window, *self.values.shape[1:]), self.values.dtype)
        for window, begin, length in zip(windows, begins, lengths, strict=True):
            window[:length] = self.values[begin : begin + length]
        return windows, lengths, self.labels[which]

    @property
    def ends(self) -> np.ndarray:
        """The index in `values` after the last frame of the clips that follow each clip in its sequence, [N]."""
        ends = self.begins + self.lengths
        last = self.offsets[1:].copy()
        for index in range(len(self) - 2, -1, -1):
            if self.sources[index + 1] == self.sources[index] and self.begins[index + 1] == ends[index]:
                last[index] = last[index + 1]
        return last

    def batches(self, plan: BatchPlan) -> Loader:
        """Return endless batches of windows; every window is used once in an epoch.

        Returns:
            a loader of (features float32 [B / processes, W, C], number of frames before the end int64 [B / processes],
            classes int64 [B / processes]).

        Raises:
            DataError: if there are no windows, or the batch is larger than their number.
        """
        which, starts = self.starts
        if plan.size > len(which):
            raise DataError(f"training.batch_size is {plan.size}, but there are only {len(which)} windows to train on")

        def generate() -> Generator[tuple[np.ndarray, ...]]:
            for chosen in places(len(which), plan):
                own = chosen[plan.part]
                yield self.windows(which[own], starts[own])

        return Loader(generate())

    def whole(self, at_most: int) -> Iterator[Stored]:
        """Yield all clips in order; adjacent ones of one length and class together."""
        alike = groupby(range(len(self)), key=lambda index: (self.lengths[index], self.labels[index]))
        for (length, label), group in alike:
            found = list(group)
            for at in range(0, len(found), at_most):
                stored = torch.from_numpy(np.stack([self.stored(index) for index in found[at : at + at_most]]))
                ones = torch.ones(len(stored), dtype=torch.int64)
                yield stored, ones * int(length), ones * int(label)

    def batch(self, features: Tensor, lengths: Tensor, labels: Tensor) -> Batch:
        """Return features float32 [B, T, C] standardised, [B, C, T], masked beyond `lengths` int64 [B] frames.

        The condition is None if the data have no classes.
        """
        mean, std = (torch.from_numpy(part).to(features.device) for part in (self.scale.mean, self.scale.std))
        real = torch.arange(features.shape[1], device=features.device) < lengths.unsqueeze(1)
        x = ((features - mean) / std).where(real.unsqueeze(2), 0)
        return Batch(x.transpose(1, 2).contiguous(), real, labels if self.classes else None)
