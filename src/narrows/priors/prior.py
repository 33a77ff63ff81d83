"""What every learned prior offers: log p(codes | label) in parallel, and code by code through `begin` and `step`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import prod
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from narrows.errors import NarrowsError

__all__ = ["CodeSpec", "Prior"]


@dataclass(frozen=True)
class CodeSpec:
    """What a prior must know of the codes it models.

    Attributes:
        grid: the code grid, for example (32, 32).
        codebooks: M, the codes per position.
        codebook_size: K, the values a code can take.
        classes: the number of labels to condition on; 0 for none.
    """

    grid: tuple[int, ...]
    codebooks: int
    codebook_size: int
    classes: int

    def __post_init__(self) -> None:
        """Refuse sizes below one."""
        if min(*self.grid, self.codebooks, self.codebook_size) < 1 or self.classes < 0:
            raise NarrowsError(f"grid, codebooks and codebook_size must be at least 1, and classes 0 or more: {self}")


class Prior(nn.Module, ABC):
    """p(codes | label) over codes [B, *grid] in [0, K), or [B, *grid, M] with M > 1 codes per position.

    The codes of an example have one fixed order: positions row by row, the M codes of a position one after the other.
    The sampler and the entropy coder are two callers of the same `begin` and `step`.

    Args:
        spec: the codes to model.

    Attributes:
        spec: the codes it models, as given.
        grid: the code grid, for example (32, 32).
        codebooks: M, the codes per position.
        codebook_size: K, the values a code can take.
        classes: the number of labels it is conditioned on; 0 if it is unconditional.
    """

    def __init__(self, spec: CodeSpec) -> None:
        super().__init__()
        self.spec = spec
        self.grid = spec.grid
        self.codebooks = spec.codebooks
        self.codebook_size = spec.codebook_size
        self.classes = spec.classes

    @property
    def length(self) -> int:
        """The number of codes of one example, M times the positions of the grid."""
        return prod(self.grid) * self.codebooks

    @property
    def code_shape(self) -> tuple[int, ...]:
        """The shape of the codes of one example: the grid, followed by M where M > 1."""
        return self.grid if self.codebooks == 1 else (*self.grid, self.codebooks)

    @abstractmethod
    def logits(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """Unnormalised log p(code | earlier codes, label), [B, *grid, M, K], of all codes at once."""

    def log_prob(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """Total log p(codes | label) in nats, [B]."""
        logits = self.logits(codes, labels).flatten(0, -2)
        return -F.cross_entropy(logits, codes.flatten().long(), reduction="none").view(len(codes), -1).sum(1)

    @abstractmethod
    def begin(self, batch: int, labels: Tensor | None = None) -> Any:
        """The state of `batch` empty examples: the caches `step` reads and writes."""

    @abstractmethod
    def step(self, state: Any, previous: Tensor | None) -> Tensor:
        """Take in the code before ([B]; None at the first) and return the logits of the next code, [B, K]."""

    def check_codes(self, codes: Tensor) -> Tensor:
        """Return the codes as [B, *grid, M].

        Raises:
            NarrowsError: if their shape is not [B, *grid] (M = 1) or [B, *grid, M], or a code lies outside [0, K).
        """
        if codes.shape[1:] != self.code_shape:
            raise NarrowsError(f"codes must have the shape {['B', *self.code_shape]}, got {list(codes.shape)}")
        _check_range(codes, self.codebook_size, "codes")
        return codes.long().view(-1, *self.grid, self.codebooks)

    def check_labels(self, labels: Tensor | None, batch: int) -> Tensor | None:
        """Return the labels, [`batch`], or None for an unconditional prior.

        Raises:
            NarrowsError: if labels are missing, uncalled for, not of shape [`batch`], or outside [0, `classes`).
        """
        if labels is None:
            if self.classes:
                raise NarrowsError(f"this prior is conditioned on {self.classes} classes: pass labels, [{batch}]")
            return None
        if not self.classes:
            raise NarrowsError("this prior has classes = 0: pass labels=None, or build it with the number of classes")
        if labels.shape != (batch,):
            raise NarrowsError(f"labels must have the shape [{batch}], one for each example, got {list(labels.shape)}")
        _check_range(labels, self.classes, "labels")
        return labels.long()


def _check_range(values: Tensor, end: int, name: str) -> None:
    if values.is_floating_point() or (values.numel() and not 0 <= values.min() <= values.max() < end):
        found = f"{values.dtype} from {values.min()} to {values.max()}"
        raise NarrowsError(f"{name} must be integers from 0 to {end - 1}, got {found}")
