"""Decoders that model each position of the data given the positions before it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

from torch import Tensor, nn

__all__ = ["AutoregressiveDecoder", "DecoderState"]


class DecoderState(Protocol):
    """A batch of examples that grow by one position a step."""

    def step(self, previous: Tensor | None) -> Tensor:
        """Append the levels of a position and return the outputs for the next one, [B, outputs].

        Args:
            previous: int64 [B], or [B, C] for data with several channels; None at the first step.
        """


class AutoregressiveDecoder(nn.Module, ABC):
    """Base class of decoders p(x_t | x_<t, z, condition): parallel for training, position by position for drawing.

    The decoder reads data as discrete levels, made by a `DiscreteLikelihood`.
    """

    @abstractmethod
    def forward(self, z: Tensor, levels: Tensor, condition: Tensor | None) -> Tensor:
        """Return the outputs of all positions, [B, outputs, *size]; those at t depend only on levels before t.

        Args:
            z: latents [B, channels, *grid].
            levels: the data, int64 [B, C, *size].
            condition: class of each example, int64 [B], -1 if unknown; None without classes.
        """

    @abstractmethod
    def begin(self, z: Tensor, condition: Tensor | None) -> DecoderState:
        """Return the state before the first position; its steps give no gradient."""
