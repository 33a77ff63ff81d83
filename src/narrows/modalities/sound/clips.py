"""Clips of mixed lengths stored end to end, and endless batches of random windows that depend only on (seed, step).

Each window is drawn independently: a clip of T samples is chosen with probability max(T, W) / S, where S is the sum of
max(T, W) over all clips, then one of its max(T - W, 0) + 1 starts, uniformly. A sample is therefore in a window with
probability max(T, W) / S times the share of starts that cover it: W / S in a clip of at most W samples, and W / S on
average in a longer clip (more in its interior, less within W of its ends, where fewer windows reach).
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from narrows.data.batch import Batch
from narrows.data.errors import DataError
from narrows.data.loader import BatchPlan, Loader
from narrows.data.sequences import Sequences
from narrows.modalities.sound.files import to_waveform

__all__ = ["Clips"]

WINDOWS = 2
"""The use of these random streams; the others are in `narrows.data.loader`."""


@dataclass
class Clips(Sequences):
    """The clips of a split; their classes are the speakers.

    The values are stored as int16 [total]: half the size of float32 and, unlike 8-bit mu-law, as precise as most files,
    so that both the training targets and the waveforms used for measurement are exact.
    """

    def clip(self, index: int) -> Tensor:
        """Return the waveform of a clip, float32 [T] in [-1, 1)."""
        return to_waveform(torch.from_numpy(self.stored(range(len(self))[index])))

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
                yield self.windows(clips, (where * starts[clips]).astype(np.int64))
                step += 1

        return Loader(generate())

    def batch(self, samples: Tensor, lengths: Tensor, speakers: Tensor) -> Batch:
        """Return windows int16 [B, T] as waveforms [B, 1, T], masked beyond `lengths` int64 [B] real samples."""
        real = torch.arange(samples.shape[1], device=samples.device) < lengths.unsqueeze(1)
        return Batch(to_waveform(samples).unsqueeze(1), real, speakers)


def _uniform(seed: int, step: int, count: int) -> np.ndarray:
    """Return a step's uniform numbers in [0, 1), float64 [2, count]; NumPy never changes PCG64's raw output."""
    bits = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(WINDOWS, step))).random_raw(2 * count)
    return ((bits >> np.uint64(11)) * 2.0**-53).reshape(2, count)
