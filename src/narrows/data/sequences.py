"""Sequences of mixed lengths, such as clips of sound or songs, stored end to end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch

from narrows.data.dataset import Examples, Stored
from narrows.data.loader import random_subset

__all__ = ["Sequences"]


@dataclass
class Sequences(Examples):
    """The sequences of a split.

    Args:
        values: the positions of all sequences, one sequence after another, [total, *position].
        offsets: the index of the first position of each sequence, then the total, int64 [N + 1].
        names: the name of each sequence, such as its file.
        labels: the class of each sequence, an index into `classes`, int64 [N].
        classes: the classes of the whole data set.
        window: length W of a training window in positions.
    """

    values: np.ndarray
    offsets: np.ndarray
    names: list[str]
    labels: np.ndarray
    classes: list[str]
    window: int

    def __len__(self) -> int:
        return len(self.names)

    @property
    def lengths(self) -> np.ndarray:
        """The length of each sequence in positions, int64 [N]."""
        return np.diff(self.offsets)

    def stored(self, index: int) -> np.ndarray:
        """Return the positions of a sequence, [T, *position]."""
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    def subset(self, count: int) -> Self:
        """Return `count` sequences drawn at random; see `Examples.subset`."""
        return self._at(random_subset(len(self), count))

    def taken(self, index: int) -> Self:
        """Return a set of only this sequence."""
        return self._at(np.array([range(len(self))[index]]))

    def _at(self, which: np.ndarray) -> Self:
        return replace(
            self,
            values=np.concatenate([self.values[:0], *(self.stored(index) for index in which)]),
            offsets=np.concatenate([[0], np.cumsum(self.lengths[which])]),
            names=[self.names[index] for index in which],
            labels=self.labels[which],
        )

    def relabelled(self, classes: list[str], labels: np.ndarray | None) -> Self:
        """Return the same sequences with other classes; `labels` None marks all as unknown (-1)."""
        return replace(self, classes=classes, labels=np.full(len(self), -1) if labels is None else labels)

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Return the sequences of several splits of one data set, one split after another."""
        return replace(
            parts[0],
            values=np.concatenate([part.values for part in parts]),
            offsets=np.concatenate([[0], np.cumsum(np.concatenate([part.lengths for part in parts]))]),
            names=[name for part in parts for name in part.names],
            labels=np.concatenate([part.labels for part in parts]),
        )

    def whole(self, at_most: int) -> Iterator[Stored]:
        """Yield all sequences in order as `windows` returns them, one at a time because their lengths differ."""
        for index, (length, label) in enumerate(zip(self.lengths, self.labels, strict=True)):
            values = torch.from_numpy(self.stored(index)[np.newaxis])
            yield values, torch.tensor([int(length)]), torch.tensor([int(label)])

    def name(self, index: int) -> str:
        """Return the name of a sequence."""
        return self.names[index]

    def windows(self, which: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return windows of the sequences `which`, int64 [B], from positions `starts`, int64 [B].

        Returns:
            (positions [B, W, *position], number of positions before the end of the sequence int64 [B], classes int64
            [B]); windows are filled with zeros after the end.
        """
        lengths = np.minimum(self.lengths[which] - starts, self.window)
        windows = np.zeros((len(which), self.window, *self.values.shape[1:]), self.values.dtype)
        for window, begin, length in zip(windows, self.offsets[which] + starts, lengths, strict=True):
            window[:length] = self.values[begin : begin + length]
        return windows, lengths, self.labels[which]
