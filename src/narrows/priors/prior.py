"""The interface of learned priors: log p(codes | condition) in parallel, and code by code with `begin` and `step`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from narrows.errors import NarrowsError
from narrows.priors.condition import Condition

__all__ = ["CodeSpec", "Prior"]


@dataclass(frozen=True)
class CodeSpec:
    """The shape of the codes that a prior models, and of their condition.

    Attributes:
        grid: the code grid, for example (32, 32).
        codebooks: M, the codes per position.
        codebook_size: K, the values a code can take.
        classes: the number of labels to condition on; 0 for none.
        channels: C, the features of each position to condition on; 0 for none.

    Raises:
        NarrowsError: if a size is below 1, or `classes` or `channels` below 0.
    """

    grid: tuple[int, ...]
    codebooks: int
    codebook_size: int
    classes: int
    channels: int = 0

    def __post_init__(self) -> None:
        """Check the sizes."""
        if min(*self.grid, self.codebooks, self.codebook_size) < 1 or min(self.classes, self.channels) < 0:
            raise NarrowsError(
                f"grid, codebooks and codebook_size must be at least 1, and classes and channels 0 or more: {self}"
            )


class Prior(nn.Module, ABC):
    """p(codes | condition) over codes [B, *grid] in [0, K), or [B, *grid, M] with M > 1 codes per position.

    The codes of an example have one fixed order: positions in row order, the M codes of a position one after another.
    Each code depends on the codes before it and on the condition: the label of the example, the features of each
    position, both or none. The features of all positions are known from the start; each prior says which ones a code
    depends on besides those of its own position. Wherever a condition is an argument, a tensor stands for labels alone.

    Sampling and entropy coding both use `begin` and `step`.

    Args:
        spec: the codes to model.

    Attributes:
        spec: the codes to model, as given.
        grid: the code grid, for example (32, 32).
        codebooks: M, the codes per position.
        codebook_size: K, the values a code can take.
        classes: the number of labels to condition on; 0 for none.
        channels: C, the features of each position to condition on; 0 for none.
    """

    def __init__(self, spec: CodeSpec) -> None:
        super().__init__()
        self.spec = spec
        self.grid = spec.grid
        self.codebooks = spec.codebooks
        self.codebook_size = spec.codebook_size
        self.classes = spec.classes
        self.channels = spec.channels

    @property
    def length(self) -> int:
        """The number of codes of one example, M times the positions of the grid."""
        return prod(self.grid) * self.codebooks

    @property
    def learns_without_features(self) -> bool:
        """Whether it is also trained with unknown features, which are zeros."""
        return False

    @property
    def code_shape(self) -> tuple[int, ...]:
        """The shape of the codes of one example: the grid, followed by M where M > 1."""
        return self.grid if self.codebooks == 1 else (*self.grid, self.codebooks)

    @abstractmethod
    def logits(self, codes: Tensor, condition: Condition | Tensor | None = None) -> Tensor:
        """Return the logits of p(code | codes before it, condition) of all codes at once, [B, *grid, M, K].

        Raises:
            NarrowsError: if `check_codes` or `check_condition` refuses the arguments.
        """

    def log_prob(
        self, codes: Tensor, condition: Condition | Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Return log p(codes | condition) in nats, [B].

        Args:
            codes: [B, *grid] or [B, *grid, M].
            condition: the condition of the examples.
            mask: bool [B, *grid], False at the positions of padding, whose codes add 0. Codes before a position are
                read whether they count or not, so padding must be at the end, in row order, of an example.

        Raises:
            NarrowsError: if the codes, the condition or the mask do not fit this prior.
        """
        if mask is not None and (mask.dtype != torch.bool or mask.shape != (len(codes), *self.grid)):
            wanted, found = [len(codes), *self.grid], f"{mask.dtype} {list(mask.shape)}"
            raise NarrowsError(f"mask must be torch.bool {wanted}, one for each position of the grid, got {found}")
        logits = self.logits(codes, condition).flatten(0, -2)
        nats = F.cross_entropy(logits, codes.flatten().long(), reduction="none").view(len(codes), -1)
        if mask is not None:
            nats = nats.masked_fill(~mask.flatten(1).repeat_interleave(self.codebooks, 1), 0)
        return -nats.sum(1)

    @abstractmethod
    def begin(self, batch: int, condition: Condition | Tensor | None = None, past: Tensor | None = None) -> Any:
        """Return the state of `batch` examples, which `step` reads and updates.

        Use a state before the weights change; its steps have no gradient.

        Args:
            batch: B, the number of examples.
            condition: the condition of the examples.
            past: the first n codes of each example in the fixed order, [B, n], to continue from; None for no codes.

        Raises:
            NarrowsError: if `check_condition` or `check_past` refuses the arguments.
        """

    @abstractmethod
    def step(self, state: Any, previous: Tensor | None) -> Tensor:
        """Append a code to each example and return the logits of the next code, [B, K].

        Args:
            state: a state that `begin` returned.
            previous: the code whose logits the last step returned, int64 [B]; None at the first step of a state.

        Raises:
            NarrowsError: if `previous` is given at the first step or None at a later one, or the examples are complete.
        """

    def check_codes(self, codes: Tensor) -> Tensor:
        """Return the codes as int64 [B, *grid, M].

        Raises:
            NarrowsError: if their shape is not [B, *grid] (M = 1) or [B, *grid, M], or a code lies outside [0, K).
        """
        if codes.shape[1:] != self.code_shape:
            raise NarrowsError(f"codes must have the shape {['B', *self.code_shape]}, got {list(codes.shape)}")
        _check_range(codes, self.codebook_size, "codes")
        return codes.long().view(-1, *self.grid, self.codebooks)

    def check_condition(self, condition: Condition | Tensor | None, batch: int) -> Condition:
        """Return the condition on this prior's device: labels [`batch`], features [`batch`, C, ...], or None for each.

        The features have the type of the weights; axes of the grid that are broadcast remain 1.

        Raises:
            NarrowsError: if labels or features are missing, not expected, of another shape or type, or a label lies
                outside [0, `classes`).
        """
        labels, features = Condition.of(condition)
        return Condition(self._check_labels(labels, batch), self._check_features(features, batch))

    def check_past(self, past: Tensor | None, batch: int) -> Tensor:
        """Return the codes to continue from on this prior's device, int64 [`batch`, n]; n is 0 for None.

        Raises:
            NarrowsError: if `past` is not [`batch`, n] with n up to `length`, or a code lies outside [0, K).
        """
        if past is None:
            return torch.empty(batch, 0, dtype=torch.long, device=self._weight.device)
        if past.dim() != 2 or len(past) != batch or past.shape[1] > self.length:
            raise NarrowsError(
                f"past must hold the first n codes of each example, [{batch}, n] with n up to {self.length}, "
                f"got {list(past.shape)}: flatten the codes of an example and cut them at n"
            )
        _check_range(past, self.codebook_size, "past")
        return past.long().to(self._weight.device)

    @property
    def _weight(self) -> Tensor:
        return next(self.parameters())

    def _check_labels(self, labels: Tensor | None, batch: int) -> Tensor | None:
        if labels is None:
            if self.classes:
                raise NarrowsError(f"this prior is conditioned on {self.classes} classes: pass labels, [{batch}]")
            return None
        if not self.classes:
            raise NarrowsError(
                "this prior has classes = 0: leave labels out (a tensor stands for labels; pass features as "
                "Condition(features=...)), or build it with the number of classes"
            )
        if labels.shape != (batch,):
            raise NarrowsError(f"labels must have the shape [{batch}], one for each example, got {list(labels.shape)}")
        _check_range(labels, self.classes, "labels")
        return labels.long().to(self._weight.device)

    def _check_features(self, features: Tensor | None, batch: int) -> Tensor | None:
        wanted = [batch, self.channels, *self.grid]
        if features is None:
            if self.channels:
                raise NarrowsError(
                    f"this prior is conditioned on {self.channels} features of each position: pass "
                    f"Condition(features=...), {wanted}"
                )
            return None
        if not self.channels:
            raise NarrowsError("this prior has channels = 0: leave features out, or build it with their channels")
        shape = list(features.shape)
        broadcasts = len(shape) == len(wanted) and all(n in (1, size) for n, size in zip(shape, wanted, strict=True))
        if not broadcasts or shape[1] != self.channels:
            raise NarrowsError(f"features must have the shape {wanted}, or 1 for an axis to broadcast, got {shape}")
        if not features.is_floating_point():
            raise NarrowsError(f"features must be floating-point numbers, got {features.dtype}: convert them first")
        return features.to(self._weight).expand(batch, *[-1] * (len(shape) - 1))


def _check_range(values: Tensor, end: int, name: str) -> None:
    if values.is_floating_point() or (values.numel() and not 0 <= values.min() <= values.max() < end):
        found = f"{values.dtype} from {values.min()} to {values.max()}"
        raise NarrowsError(f"{name} must be integers from 0 to {end - 1}, got {found}")
