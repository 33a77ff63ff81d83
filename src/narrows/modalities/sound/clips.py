"""Clips of mixed lengths stored end to end, and endless batches of random windows that depend only on (seed, step).

Each window is drawn independently: a clip of T samples is chosen with probability max(T, W) / S, where S is the sum of
max(T, W) over all clips, then one of its max(T - W, 0) + 1 starts, uniformly. A sample is therefore in a window with
probability max(T, W) / S times the share of starts that cover it: W / S in a clip of at most W samples, and W / S on
average in a longer clip (more in its interior, less within W of its ends, where fewer windows reach).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from narrows.data.batch import Batch
from narrows.data.dataset import Examples, Stored
from narrows.data.errors import DataError
from narrows.data.loader import BatchPlan, Loader, random_subset
from narrows.modalities.sound.files import to_waveform

__all__ = ["Clips"]

WINDOWS = 2
"""The use of these random streams; the others are in `narrows.data.loader`."""


@dataclass
class Clips(Examples):
    """The clips of a split.

    Samples are stored as int16: half the size of float32 and, unlike 8-bit mu-law, as precise as most files, so that
    both the training targets and the waveforms used for measurement are exact.

    Args:
        samples: the clips end to end, int16 [total].
        offsets: the index of the first sample of each clip, then the total, int64 [N + 1].
        names: the file of each clip.
        labels: the speaker of each clip, an index into `classes`, int64 [N].
        classes: the speakers of the whole data set.
        window: length W of a training window in samples.
    """

    samples: np.ndarray
    offsets: np.ndarray
    names: list[str]
    labels: np.ndarray
    classes: list[str]
    window: int

    def __len__(self) -> int:
        return len(self.names)

    @property
    def lengths(self) -> np.ndarray:
        """The length of each clip in samples, int64 [N]."""
        return np.diff(self.offsets)

    def clip(self, index: int) -> Tensor:
        """Return the waveform of a clip, float32 [T] in [-1, 1)."""
        return to_waveform(torch.from_numpy(self._of(range(len(self))[index])))

    def _of(self, index: int) -> np.ndarray:
        return self.samples[self.offsets[index] : self.offsets[index + 1]]

    def subset(self, count: int) -> Clips:
        """Return `count` clips drawn at random; see `Examples.subset`."""
        return self._at(random_subset(len(self), count))

    def taken(self, index: int) -> Clips:
        """Return a set of only this clip."""
        return self._at(np.array([range(len(self))[index]]))

    def _at(self, which: np.ndarray) -> Clips:
        return replace(
            self,
            samples=np.concatenate([self.samples[:0], *(self._of(index) for index in which)]),
            offsets=np.concatenate([[0], np.cumsum(self.lengths[which])]),
            names=[self.names[index] for index in which],
            labels=self.labels[which],
        )

    def relabelled(self, classes: list[str], labels: np.ndarray | None) -> Clips:
        """Return the same clips with other speakers; `labels` None marks all as unknown (-1)."""
        return replace(self, classes=classes, labels=np.full(len(self), -1) if labels is None else labels)

    @classmethod
    def joined(cls, parts: Sequence[Clips]) -> Clips:
        """Return the clips of several splits of one data set, one split after another."""
        return replace(
            parts[0],
            samples=np.concatenate([part.samples for part in parts]),
            offsets=np.concatenate([[0], np.cumsum(np.concatenate([part.lengths for part in parts]))]),
            names=[name for part in parts for name in part.names],
            labels=np.concatenate([part.labels for part in parts]),
        )

    def batches(self, plan: BatchPlan) -> Loader:
        """Return endless batches of random windows.

        Returns:
            a loader of (samples int16 [B / processes, W], number of real samples int64 [B / processes], speakers int64
            [B / processes]); windows are padded with zeros after the real samples.

        Raises:
            DataError: if there are no clips.
        """
        if not len(self):
            raise DataError("there are no clips to draw windows from")
        ends = np.cumsum(np.maximum(self.lengths, self.window))
        starts = np.maximum(self.lengths - self.window, 0) + 1

        def generate() -> Generator[tuple[np.ndarray, ...]]:
            step = plan.start
            while True:
                which, where = _uniform(plan.seed, step, plan.size)[:, plan.part]
                clips = np.searchsorted(ends, (which * ends[-1]).astype(np.int64), side="right")
                yield self._cut(clips, (where * starts[clips]).astype(np.int64))
                step += 1

        return Loader(generate())

    def batch(self, samples: Tensor, lengths: Tensor, speakers: Tensor) -> Batch:
        """Return windows int16 [B, T] as waveforms [B, 1, T], masked beyond `lengths` int64 [B] real samples."""
        real = torch.arange(samples.shape[1], device=samples.device) < lengths.unsqueeze(1)
        return Batch(to_waveform(samples).unsqueeze(1), real, speakers)

    def whole(self, at_most: int) -> Iterator[Stored]:
        """Yield all clips in order, one at a time because their lengths differ."""
        for index, (length, speaker) in enumerate(zip(self.lengths, self.labels, strict=True)):
            samples = torch.from_numpy(self._of(index)[np.newaxis])
            yield samples, torch.tensor([int(length)]), torch.tensor([int(speaker)])

    def name(self, index: int) -> str:
        """Return the file name of a clip."""
        return self.names[index]

    def _cut(self, clips: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, ...]:
        lengths = np.minimum(self.lengths[clips], self.window)
        windows = np.zeros((len(clips), self.window), np.int16)
        for window, begin, length in zip(windows, self.offsets[clips] + starts, lengths, strict=True):
            window[:length] = self.samples[begin : begin + length]
        return windows, lengths, self.labels[clips]


def _uniform(seed: int, step: int, count: int) -> np.ndarray:
    """Return a step's uniform numbers in [0, 1), float64 [2, count]; NumPy never changes PCG64's raw output."""
    bits = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(WINDOWS, step))).random_raw(2 * count)
    return ((bits >> np.uint64(11)) * 2.0**-53).reshape(2, count)
