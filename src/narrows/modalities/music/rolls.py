"""The piano rolls of a split, and training windows of them in random order."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from narrows.data.batch import Batch
from narrows.data.errors import DataError
from narrows.data.loader import BatchPlan, Loader, places, uniforms
from narrows.data.sequences import Sequences
from narrows.modalities.music.damage import without_notes
from narrows.modalities.music.roll import RollLayout

__all__ = ["Rolls"]


@dataclass
class Rolls(Sequences):
    """The stretches of songs in a split, as piano rolls uint8 [total, C]; their classes are the songs.

    Args:
        begins: the step of its song at which each stretch begins, int64 [N].
        layout: what the values mean.
        stride: steps from the start of one training window to the next.
        windows_per_song: use only the first windows of each song; None uses all.
        removed: share of the notes of training windows that the encoder does not see.
    """

    begins: np.ndarray
    layout: RollLayout
    stride: int
    windows_per_song: int | None = None
    removed: float = 0.0

    def _at(self, which: np.ndarray) -> Rolls:
        part = super()._at(which)
        part.begins = self.begins[which]
        return part

    @classmethod
    def joined(cls, parts: list[Rolls]) -> Rolls:  # type: ignore[override]
        """Return the stretches of several splits of one data set, one split after another."""
        joined = super().joined(parts)
        joined.begins = np.concatenate([part.begins for part in parts])
        return joined

    @property
    def starts(self) -> tuple[np.ndarray, np.ndarray]:
        """The stretch and the first step of every training window, int64 [M] each; short stretches give one window."""
        counts = np.maximum(self.lengths - self.window, 0) // self.stride + 1
        which = np.repeat(np.arange(len(self)), counts)
        first = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
        if self.windows_per_song is not None:
            songs = self.labels[which]
            order = np.argsort(songs, kind="stable")
            rank = np.empty(len(which), np.int64)
            rank[order] = np.arange(len(which)) - np.searchsorted(songs[order], songs[order])
            kept = rank < self.windows_per_song
            which, first = which[kept], first[kept]
        return which, first * self.stride

    @property
    def stretches(self) -> set[tuple[int, int]]:
        """The song and the first step of each stretch."""
        return set(zip(self.labels.tolist(), self.begins.tolist(), strict=True))

    @property
    def notes(self) -> int:
        """The number of notes that begin in the stretches, or sound at their first step."""
        return sum(len(self.layout.to_notes(self.stored(index)).pitch) for index in range(len(self)))

    def batches(self, plan: BatchPlan) -> Loader:
        """Return endless batches of windows; every window is used once in an epoch.

        Returns:
            a loader of (rolls uint8 [B / processes, W, C], number of steps before the end int64 [B / processes], songs
            int64 [B / processes]) and, if notes are removed, the rolls without them.

        Raises:
            DataError: if there are no windows, or the batch is larger than their number.
        """
        which, starts = self.starts
        if plan.size > len(which):
            raise DataError(f"training.batch_size is {plan.size}, but there are only {len(which)} windows to train on")

        def generate() -> Generator[tuple[np.ndarray, ...]]:
            for step, chosen in enumerate(places(len(which), plan), plan.start):
                own = chosen[plan.part]
                stored = self.windows(which[own], starts[own])
                yield (*stored, self._damaged(stored[0], plan, step)) if self.removed else stored

        return Loader(generate())

    def _damaged(self, rolls: np.ndarray, plan: BatchPlan, step: int) -> np.ndarray:
        random = partial(uniforms, seed=plan.seed, step=step)
        places = enumerate(rolls, plan.part.start)
        return np.stack(
            [without_notes(roll, self.layout, self.removed, partial(random, example=place)) for place, roll in places]
        )

    def batch(self, rolls: Tensor, lengths: Tensor, songs: Tensor, damaged: Tensor | None = None) -> Batch:
        """Return rolls uint8 [B, T, C] as float32 [B, C, T] in [0, 1], masked beyond `lengths` int64 [B] steps."""
        real = torch.arange(rolls.shape[1], device=rolls.device) < lengths.unsqueeze(1)
        return Batch(self._values(rolls), real, songs, None if damaged is None else self._values(damaged))

    def _values(self, rolls: Tensor) -> Tensor:
        return rolls.transpose(1, 2).float() / self.layout.scale
