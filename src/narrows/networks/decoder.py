"""Decoders that describe each position of the data given the positions before it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

from torch import Tensor, nn

__all__ = ["AutoregressiveDecoder", "DecoderState"]


class DecoderState(Protocol):
    """A batch of examples that grow by one position a step."""

    def step(self, previous: Tensor | None) -> Tensor:
        """Take in the position before, int64 [B] (None at the first), and return the outputs of the next."""


class AutoregressiveDecoder(nn.Module, ABC):
    """p(x_t | x_<t, z, condition): in parallel for training, and position by position to draw data.

    Data are read as discrete levels, which a `DiscreteLikelihood` makes of them.
    """

    @abstractmethod
    def forward(self, z: Tensor, levels: Tensor, condition: Tensor | None) -> Tensor:
        """Return the outputs of all positions, [B, outputs, *size], those at t from the levels before t.

        Args:
            z: latents [B, channels, *grid].
            levels: the data, int64 [B, C, *size].
            condition: the class of each example, int64 [B], -1 if unknown; None without classes.
        """

    @abstractmethod
    def begin(self, z: Tensor, condition: Tensor | None) -> DecoderState:
        """Return the state before the first position; steps give no gradient."""
