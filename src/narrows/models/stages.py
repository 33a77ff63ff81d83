"""Models upon another: the second stage of two, whose first is trained and frozen."""

from __future__ import annotations

from typing import ClassVar, Self

from narrows.errors import NarrowsError
from narrows.models.autoencoder import Autoencoder

__all__ = ["SecondStage"]


class SecondStage(Autoencoder):
    """A model that is trained upon a frozen first one; together they form one model of x.

    A constructor sets `first_stage` to None.
    """

    stages: ClassVar[int] = 2
    first_stage: Autoencoder | None

    @property
    def first(self) -> Autoencoder:
        """The first model.

        Raises:
            NarrowsError: if it has not been set yet.
        """
        if self.first_stage is None:
            raise NarrowsError("this model is the second of two stages: train it with --on RUN, the run of the first")
        return self.first_stage

    def attach_to(self, first: Autoencoder) -> None:
        """Set `first` as the first model and freeze it in eval mode."""
        self.first_stage = first.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Put the second model into training or eval mode; the first stays in eval mode."""
        super().train(mode)
        if self.first_stage is not None:
            self.first_stage.eval()
        return self
