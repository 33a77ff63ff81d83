"""Clips cut from longer sequences, with training windows that reach over the cuts."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Self

import numpy as np
import torch

from narrows.data.dataset import Stored
from narrows.data.errors import DataError
from narrows.data.loader import BatchPlan, Loader, places
from narrows.data.sequences import Sequences

__all__ = ["Clips"]


@dataclass
class Clips(Sequences):
    """The clips of a split, in the order of their sequences.

    Args:
        sources: the number of the sequence that each clip is of, int64 [N].
        begins: the position of its sequence at which each clip begins, int64 [N].
        stride: positions from the start of one training window to the next.
    """

    sources: np.ndarray
    begins: np.ndarray
    stride: int

    def _at(self, which: np.ndarray) -> Self:
        part = super()._at(which)
        part.sources, part.begins = self.sources[which], self.begins[which]
        return part

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Return the clips of several splits of one data set, one split after another."""
        joined = super().joined(parts)
        joined.sources = np.concatenate([part.sources for part in parts])
        joined.begins = np.concatenate([part.begins for part in parts])
        return joined

    @property
    def starts(self) -> tuple[np.ndarray, np.ndarray]:
        """The first clip and, from its start, the first position of every training window, int64 [M] each.

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
        """Return windows that begin at positions of clips, from `starts`; see `Sequences.windows`."""
        begins, lengths = self.spans(which, starts)
        return self.filled(self.values, begins, lengths), lengths, self.labels[which]

    def spans(self, which: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return where windows begin in `values`, and their lengths up to the end of their sequence, int64 [B] each."""
        begins = self.offsets[which] + starts
        return begins, np.minimum(self.ends[which] - begins, self.window)

    def filled(self, values: np.ndarray, begins: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Return windows of values [total, *position], [B, W, *position], with zeros after their `lengths`."""
        windows = np.zeros((len(begins), self.window, *values.shape[1:]), values.dtype)
        for window, begin, length in zip(windows, begins, lengths, strict=True):
            window[:length] = values[begin : begin + length]
        return windows

    @property
    def ends(self) -> np.ndarray:
        """The index in `values` after the last position of the clips that follow each clip in its sequence, [N]."""
        ends = self.begins + self.lengths
        last = self.offsets[1:].copy()
        for index in range(len(self) - 2, -1, -1):
            if self.sources[index + 1] == self.sources[index] and self.begins[index + 1] == ends[index]:
                last[index] = last[index + 1]
        return last

    def batches(self, plan: BatchPlan) -> Loader:
        """Return endless batches of windows; every window is used once in an epoch.

        Returns:
            a loader of what `windows` returns for the examples of this process.

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
