"""A batch in the form that models read, and the specification of a model's data."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from narrows.errors import NarrowsError

__all__ = ["Batch", "Spec"]


class Batch(NamedTuple):
    """A batch of B examples in the form that models read."""

    x: Tensor
    """The data, float [B, C, *size]."""
    mask: Tensor | None = None
    """True for data and False for padding, bool [B, *size]; None if there is no padding."""
    condition: Tensor | None = None
    """The class of each example, an index into `Spec.classes`, int64 [B]; -1 if unknown. None without classes."""
    damaged: Tensor | None = None
    """What the encoder reads instead of the data, as in a denoising autoencoder, float [B, C, *size]; None for x."""
    features: Tensor | None = None
    """Features of each position of the first axis that a prior of the codes is conditioned on, such as actions, float
    [B, `Spec.channels`, T, 1, ...] with 1 for each further axis; zeros where they are unknown. None without."""

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
        bounds: the smallest and the largest value of the data; None for data without bounds, which models read as they
            are instead of scaled to [-1, 1].
        variable: whether examples may have any length along the first axis of `size`.
        rate: positions per second along the first axis, for data in time; None for others.
        channels: the features of each position of the first axis, for data with `Batch.features`; 0 for none.
        details: whatever else the modality needs to read and write files for the model, as JSON values.

    Raises:
        NarrowsError: if a value has the wrong type, as in a file that was edited.
    """

    shape: tuple[int, ...]
    modality: str = ""
    classes: tuple[str, ...] = ()
    bounds: tuple[float, float] | None = (0.0, 1.0)
    variable: bool = False
    rate: float | None = None
    channels: int = 0
    details: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        right = {
            "shape": isinstance(self.shape, tuple) and len(self.shape) > 1 and all(map(_is_size, self.shape)),
            "modality": isinstance(self.modality, str),
            "classes": isinstance(self.classes, tuple) and all(isinstance(name, str) for name in self.classes),
            "bounds": self.bounds is None or (isinstance(self.bounds, tuple) and _is_range(*self.bounds)),
            "variable": isinstance(self.variable, bool),
            "rate": self.rate is None or (_is_finite(self.rate) and self.rate > 0),
            "channels": self.channels == 0 or _is_size(self.channels),
            "details": isinstance(self.details, dict),
        }
        for name, is_right in right.items():
            if not is_right:
                raise NarrowsError(f"{name} is {getattr(self, name)!r}, which describes no data: see narrows.data.Spec")


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31


def _is_range(*bounds: object) -> bool:
    return len(bounds) == 2 and all(map(_is_finite, bounds)) and bounds[0] < bounds[1]  # type: ignore[operator]


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
