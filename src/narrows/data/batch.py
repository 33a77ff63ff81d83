"""A batch as models read it, and the specification of the data that a model is made for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

__all__ = ["Batch", "Spec"]


class Batch(NamedTuple):
    """B examples as a model reads them."""

    x: Tensor
    """The data, float [B, C, *size]."""
    mask: Tensor | None = None
    """Which positions count, bool [B, *size]; the others are padding. None if all count."""
    condition: Tensor | None = None
    """The number of the class of each example among `Spec.classes`, int64 [B], -1 if unknown; None without classes."""

    def repeated(self, samples: int) -> Batch:
        """Return the batch `samples` (S) times over, [S B, ...], the examples of a repetition next to each other."""
        parts = (part if part is None else part.expand(samples, *part.shape).flatten(0, 1) for part in self)
        return Batch(*parts)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Spec:
    """What a model must know of the data it is made for.

    Args:
        shape: (C, *size) of one example; of data of any length, of a training window.
        modality: the kind of data, one of `narrows.modalities`; "" for tensors that are of none.
        classes: the names of the classes that conditions and labels number.
        bounds: the least and the largest value of the data.
        variable: whether examples may have any length, which is that of the first axis of `size`.
        rate: positions of the first axis a second, of data in time; None for others.
    """

    shape: tuple[int, ...]
    modality: str = ""
    classes: tuple[str, ...] = ()
    bounds: tuple[float, float] = (0.0, 1.0)
    variable: bool = False
    rate: float | None = None
