"""Endless training batches that depend only on (seed, step), so that a run resumes at any step without saved state.

Epoch e is a permutation drawn from (seed, e). Step t uses positions [tB, (t+1)B) of the concatenated epochs. Random
bits are PCG64's raw output, which NumPy never changes. With several processes, rank r gets the r-th part of the same
global batch.
"""

from __future__ import annotations

import queue
import threading
import time
import weakref
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from narrows.data.errors import DataError

__all__ = ["BatchPlan", "Loader", "batches", "coins", "permutation", "places", "random_subset", "uniforms"]

SUBSETS = 0
"""The seed of all subsets, which are thus the same in every run."""
EPOCHS, FLIPS, NOISE = 0, 1, 2
"""Uses of random streams; streams of one seed and different uses are independent."""
AHEAD = 4
"""The number of batches prepared ahead of the reader."""

Arrays = tuple[np.ndarray, ...]


def permutation(count: int, seed: int, epoch: int = 0) -> np.ndarray:
    """Return the order of `count` examples in an epoch, int64 [count]; the same with every version of NumPy."""
    return np.argsort(_bits(count, seed, EPOCHS, epoch), kind="stable")


def random_subset(total: int, count: int) -> np.ndarray:
    """Return `count` indices in [0, total) in a fixed random order, int64; smaller subsets are prefixes of larger."""
    return permutation(total, SUBSETS)[:count]


def coins(count: int, seed: int, step: int) -> np.ndarray:
    """Return the fair coin flips of a step, bool [count]."""
    return _bits(count, seed, FLIPS, step) >> np.uint64(63) == 1


def uniforms(count: int, seed: int, step: int, example: int) -> np.ndarray:
    """Return random numbers in [0, 1) for an example of a step's global batch, float64 [count]."""
    return (_bits(count, seed, NOISE, step, example) >> np.uint64(11)) * 2.0**-53


@dataclass(frozen=True)
class BatchPlan:
    """The training batches of a process.

    Args:
        size: the global batch size B, over all processes.
        seed: the seed of the order and all random choices.
        start: the step of the first batch, counted from 0.
        rank: the index of this process.
        processes: the number of processes that share each batch.

    Raises:
        DataError: if the batch cannot be divided evenly.
    """

    size: int
    seed: int = 0
    start: int = 0
    rank: int = 0
    processes: int = 1

    def __post_init__(self) -> None:
        if self.size < 1 or self.size % self.processes:
            raise DataError(
                f"training.batch_size is {self.size}: it must be a positive multiple of the {self.processes} processes"
            )

    @property
    def part(self) -> slice:
        """The slice of the global batch for this process."""
        share = self.size // self.processes
        return slice(self.rank * share, (self.rank + 1) * share)


def batches(
    values: np.ndarray,
    labels: np.ndarray | None,
    plan: BatchPlan,
    flip: bool = False,
    features: np.ndarray | None = None,
) -> Loader:
    """Return endless batches of an array: pixels [N, C, H, W] for an autoencoder, codes [N, *grid] for a prior.

    Args:
        values: the examples, in memory or mapped from disk.
        labels: their classes [N], or None.
        plan: the batches to return.
        flip: mirror examples left to right (along their last axis) with probability 1/2.
        features: their features [N, ...], or None.

    Returns:
        a loader of (values [B / processes, ...], labels, features), without those that are None.

    Raises:
        DataError: if the batch is larger than the data.
    """
    if plan.size > len(values):
        raise DataError(f"training.batch_size is {plan.size}, but there are only {len(values)} examples to train on")

    def generate() -> Generator[Arrays]:
        for step, chosen in enumerate(places(len(values), plan), plan.start):
            picked = values[chosen[plan.part]]
            if flip:
                heads = coins(plan.size, plan.seed, step)[plan.part]
                picked[heads] = picked[heads, ..., ::-1]
            yield picked, *(part[chosen[plan.part]] for part in (labels, features) if part is not None)

    return Loader(generate())


class Loader(Iterator[tuple[Tensor, ...]]):
    """An iterator over batches that prepares them in a background thread, in pinned memory if CUDA is available.

    Args:
        source: yields the arrays of one batch after another; its exceptions are raised in the reader.

    Attributes:
        waited: the total time the reader has waited for batches, in seconds.
    """

    def __init__(self, source: Generator[Arrays]) -> None:
        self.waited = 0.0
        self._made: queue.Queue[tuple[Tensor, ...] | BaseException] = queue.Queue(AHEAD)
        self._stop = threading.Event()
        # The thread has no reference to the loader, so that it also ends when the loader is garbage-collected.
        self._thread = threading.Thread(target=_fill, args=(source, self._made, self._stop), daemon=True)
        self._thread.start()
        weakref.finalize(self, self._stop.set)

    def __next__(self) -> tuple[Tensor, ...]:
        if self._stop.is_set():
            raise StopIteration
        began = time.perf_counter()
        batch = self._made.get()
        self.waited += time.perf_counter() - began
        if isinstance(batch, BaseException):
            self.close()
            raise batch
        return batch

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the thread and wait for it to end."""
        self._stop.set()
        self._thread.join()


def _fill(
    source: Generator[Arrays], made: queue.Queue[tuple[Tensor, ...] | BaseException], stop: threading.Event
) -> None:
    def hand_over(item: tuple[Tensor, ...] | BaseException) -> None:
        while not stop.is_set():
            try:
                return made.put(item, timeout=0.1)
            except queue.Full:
                pass

    pinned = torch.cuda.is_available()
    try:
        for arrays in source:
            tensors = map(torch.from_numpy, arrays)
            hand_over(tuple(tensor.pin_memory() if pinned else tensor for tensor in tensors))
            if stop.is_set():
                return
        hand_over(StopIteration())
    except BaseException as error:
        hand_over(error)
    finally:
        source.close()


def places(count: int, plan: BatchPlan) -> Iterator[np.ndarray]:
    """Yield the indices of the global batches of steps `start`, `start` + 1, ..., int64 [B] each."""
    epoch, place = divmod(plan.start * plan.size, count)
    order = permutation(count, plan.seed, epoch)
    while True:
        if place + plan.size > count:
            epoch += 1
            following = permutation(count, plan.seed, epoch)
            yield np.concatenate([order[place:], following[: place + plan.size - count]])
            order, place = following, place + plan.size - count
        else:
            yield order[place : place + plan.size]
            place += plan.size


def _bits(count: int, seed: int, *use: int) -> np.ndarray:
    return np.random.PCG64(np.random.SeedSequence(seed, spawn_key=use)).random_raw(count)
