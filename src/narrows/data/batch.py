"""A batch in the form that models read, and the specification of a model's data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

__all__ = ["Batch", "Spec"]


class Batch(NamedTuple):
    """A batch of B examples in the form that models read."""

    x: Tensor
    """The data, float [B, C, *size]."""
    mask: Tensor | None = None
    """True for data and False for padding, bool [B, *size]; None if there is no padding."""
    condition: Tensor | None = None
    """The class of each example, an index into `Spec.classes`, int64 [B]; -1 if unknown. None without classes."""

    def repeated(self, samples: int) -> Batch:
        """Return the batch repeated `samples` (S) times, [S * B, ...]; each repetition is contiguous."""
        parts = (part if part is None else part.expand(samples, *part.shape).flatten(0, 1) for part in self)
        return Batch(*parts)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Spec:
    """Specification of the data that a model is made for.

    Args:
        shape: (C, *size) of one example or, for data of variable length, of a training window.
        modality: the kind of data, one of `narrows.modalities`; "" for plain tensors.
        classes: the names of the classes; conditions and labels are indices into it.
        bounds: the smallest and the largest value of the data.
        variable: whether examples may have any length along the first axis of `size`.
        rate: positions per second along the first axis, for data in time; None for others.
    """

    shape: tuple[int, ...]
    modality: str = ""
    classes: tuple[str, ...] = ()
    bounds: tuple[float, float] = (0.0, 1.0)
    variable: bool = False
    rate: float | None = None
