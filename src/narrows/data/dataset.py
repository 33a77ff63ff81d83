"""A data set by its splits, and what the examples of a split offer to training and measurement."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from torch import Tensor

from narrows.data.batch import Batch, Spec
from narrows.data.errors import DataError
from narrows.data.loader import BatchPlan, Loader
from narrows.data.splits import Digest

__all__ = ["Data", "Examples", "Stored", "TrainingExamples"]

Stored = tuple[Tensor, ...]
"""Tensors of several examples as they are kept, in few bytes; `batch` turns them into what models read."""


class TrainingExamples(Protocol):
    """What can be trained on: examples in memory, or a stream of them."""

    def batches(self, plan: BatchPlan) -> Loader:
        """Return endless training batches, as they are stored."""

    def batch(self, *stored: Any, **named: Any) -> Batch:
        """Return stored examples as models read them, on their device."""


class Examples(ABC):
    """The examples of a split.

    Attributes:
        classes: the names of the classes of the whole set.
        labels: the class of each example, a position in `classes`, int64 [N]; None if they have none.
    """

    classes: list[str]
    labels: np.ndarray | None

    @abstractmethod
    def __len__(self) -> int:
        """The number of examples, N."""

    @abstractmethod
    def subset(self, count: int) -> Self:
        """Return `count` examples drawn at random, always the same ones, or all of them if there are fewer.

        They come in the order they were drawn in: the first of them are the smaller subsets, and of all classes.
        """

    @abstractmethod
    def relabelled(self, classes: list[str], labels: np.ndarray | None) -> Self:
        """Return the same examples with other labels."""

    @abstractmethod
    def batches(self, plan: BatchPlan) -> Loader:
        """Return endless training batches, as they are stored."""

    @abstractmethod
    def batch(self, *stored: Any, **named: Any) -> Batch:
        """Return stored examples as models read them, on their device."""

    @abstractmethod
    def whole(self, at_most: int) -> Iterator[Stored]:
        """Yield all examples once and whole, in order, at most so many at a time, as they are stored."""

    @abstractmethod
    def name(self, index: int) -> str:
        """Return the name of an example, as a file's."""

    def __getitem__(self, index: int) -> Tensor:
        """Return an example as models read it, [C, *size]."""
        return next(self.taken(index).batch(*stored).x[0] for stored in self.taken(index).whole(1))

    @abstractmethod
    def taken(self, index: int) -> Self:
        """Return one example alone."""

    def numbered(self, classes: list[str]) -> Self:
        """Return the same examples with the numbers that their classes have among `classes`, -1 for one not there."""
        if self.labels is None or self.classes == classes:
            return self
        numbers = {name: number for number, name in enumerate(classes)}
        known = np.array([numbers.get(name, -1) for name in self.classes], np.int64)
        return self.relabelled(classes, known[self.labels])


@dataclass
class Data:
    """A data set.

    Args:
        train: what to train on.
        validation: held out, to watch training by; may be empty.
        test: held out, to quote figures on; may be empty.
        spec: what a model must know of it.
        skipped: (file, reason) of every file passed over.
        digest: what the splits are, to tell whether they have changed; see `narrows.data.splits.differences`.
        summary: how the source was read, in a line: its splits, classes, and what was passed over.
    """

    SPLITS: ClassVar[tuple[str, ...]] = ("train", "validation", "test", "all")
    """The splits that can be measured by name."""

    train: Any
    validation: Any
    test: Any
    spec: Spec
    skipped: list[tuple[str, str]]
    digest: Digest
    summary: str

    @property
    def classes(self) -> list[str]:
        """The names of the classes that a model is told of."""
        return list(self.spec.classes)

    def split(self, name: str) -> Examples:
        """Return the examples of a split.

        Raises:
            DataError: if there is no such split, or it is streamed.
        """
        if name not in self.SPLITS:
            raise DataError(f"--split {name}: these data have {', '.join(self.SPLITS)}")
        part = getattr(self, name)
        if not isinstance(part, Examples):
            raise DataError(
                f"--split {name}: a stream is measured on the examples held out of it; choose validation or test, or "
                "fetch the data with --data.streaming=false"
            )
        return part
