"""A data set with its splits, and the interface of a split's examples for training and evaluation."""

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
"""Tensors of several examples in compact storage form; `batch` converts them to the form that models read."""


class TrainingExamples(Protocol):
    """Examples to train on, in memory or as a stream."""

    def batches(self, plan: BatchPlan) -> Loader:
        """Return endless training batches in storage form."""

    def batch(self, *stored: Any, **named: Any) -> Batch:
        """Convert stored examples to the form that models read, on their device."""


class Examples(ABC):
    """The examples of a split.

    Attributes:
        classes: the names of the classes of the whole data set.
        labels: the class of each example, an index into `classes`, int64 [N]; None if they have none.
    """

    classes: list[str]
    labels: np.ndarray | None

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of examples, N."""

    @abstractmethod
    def subset(self, count: int) -> Self:
        """Return `count` examples drawn at random with a fixed seed, or all examples if there are fewer.

        They are in the order of drawing, so that the first ones form the smaller subsets and cover all classes.
        """

    @abstractmethod
    def relabelled(self, classes: list[str], labels: np.ndarray | None) -> Self:
        """Return the same examples with other labels."""

    @abstractmethod
    def batches(self, plan: BatchPlan) -> Loader:
        """Return endless training batches in storage form."""

    @abstractmethod
    def batch(self, *stored: Any, **named: Any) -> Batch:
        """Convert stored examples to the form that models read, on their device."""

    @abstractmethod
    def whole(self, at_most: int) -> Iterator[Stored]:
        """Yield all complete examples once, in order and in storage form, at most `at_most` at a time."""

    @abstractmethod
    def name(self, index: int) -> str:
        """Return the name of an example, such as its file."""

    def __getitem__(self, index: int) -> Tensor:
        """Return an example in the form that models read, [C, *size]."""
        return next(self.taken(index).batch(*stored).x[0] for stored in self.taken(index).whole(1))

    @abstractmethod
    def taken(self, index: int) -> Self:
        """Return a set of only this example."""

    def numbered(self, classes: list[str]) -> Self:
        """Return the same examples with labels that are indices into `classes`; -1 for classes not in it."""
        if self.labels is None or self.classes == classes:
            return self
        numbers = {name: number for number, name in enumerate(classes)}
        # The last one is that of the label -1.
        known = np.array([*(numbers.get(name, -1) for name in self.classes), -1], np.int64)
        return self.relabelled(classes, known[self.labels])


@dataclass
class Data:
    """A data set.

    Args:
        train: the training examples.
        validation: examples held out to monitor training; may be empty.
        test: examples held out for final figures; may be empty.
        spec: the specification for models.
        skipped: (file, reason) for each file skipped.
        digest: a digest of the splits, to detect changes; see `narrows.data.splits.differences`.
        summary: a line about the source: its splits, its classes and the number of files skipped.
    """

    SPLITS: ClassVar[tuple[str, ...]] = ("train", "validation", "test", "all")
    """The names of splits that can be evaluated."""

    train: Any
    validation: Any
    test: Any
    spec: Spec
    skipped: list[tuple[str, str]]
    digest: Digest
    summary: str

    @property
    def classes(self) -> list[str]:
        """The names of the classes that a model can be conditioned on."""
        return list(self.spec.classes)

    @property
    def augmented(self) -> Any:
        """The examples that models and priors are trained on: those of `train`, unless a kind of data adds some."""
        return self.train

    def split(self, name: str) -> Examples:
        """Return the examples of a split.

        Raises:
            DataError: if there is no such split, or it is a stream.
        """
        if name not in self.SPLITS:
            raise DataError(f"--split {name}: these data have {', '.join(self.SPLITS)}")
        part = getattr(self, name)
        if not isinstance(part, Examples):
            raise DataError(
                f"--split {name}: a stream is evaluated only on examples held out of it; choose validation or test, or "
                "download the data with --data.streaming=false"
            )
        return part
