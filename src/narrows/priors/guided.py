"""Classifier-free guidance: draws that follow their features more than the data do.

J. Ho, T. Salimans, "Classifier-free diffusion guidance" (2022), equation 6, for the logits of codes.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from narrows.errors import NarrowsError
from narrows.priors.condition import Condition
from narrows.priors.prior import Prior

__all__ = ["Guided", "guided"]


class Guided(Prior):
    """A prior with the logits l(code | features) + w (l(code | features) - l(code | unknown features)).

    With w = 0 it is the prior itself; above, what the features make more probable than other codes is drawn more often,
    at twice the cost. Unknown features are zeros, which the prior must have been trained with, as `FramePixelCNN` is
    whose features are partly `hidden`.

    Args:
        prior: the prior to guide.
        weight: w, at least 0.

    Raises:
        NarrowsError: if the prior has no features or never learnt without them, or the weight is below 0.
    """

    def __init__(self, prior: Prior, weight: float) -> None:
        super().__init__(prior.spec)
        if not prior.channels:
            raise NarrowsError(
                "the prior is not conditioned on features, so nothing can guide its draws: set guidance to 0"
            )
        if not prior.learns_without_features:
            raise NarrowsError(
                f"the prior, a {type(prior).__name__}, was never trained without its features, so nothing guides its "
                "draws: set guidance to 0, or fit a FramePixelCNN with prior.hidden above 0"
            )
        if not 0 <= weight < math.inf:
            raise NarrowsError(f"guidance is {weight}: it must be a number of at least 0")
        self.prior, self.weight = prior, weight

    def logits(self, codes: Tensor, condition: Condition | Tensor | None = None) -> Tensor:
        """Return the logits of p(code | codes before it, condition) of all codes at once, [B, *grid, M, K]."""
        return self._guided(self.prior.logits(torch.cat([codes, codes]), self._both(condition, len(codes))))

    def begin(self, batch: int, condition: Condition | Tensor | None = None, past: Tensor | None = None) -> Any:
        """Return the state of `batch` examples, twice: with their features, and with unknown ones."""
        past = self.check_past(past, batch)
        return self.prior.begin(2 * batch, self._both(condition, batch), past.repeat(2, 1))

    def step(self, state: Any, previous: Tensor | None) -> Tensor:
        """Append a code, [B] (None at the first step), and return the logits of the next code, [B, K]."""
        return self._guided(self.prior.step(state, None if previous is None else previous.repeat(2)))

    def _both(self, condition: Condition | Tensor | None, batch: int) -> Condition:
        labels, features = self.check_condition(condition, batch)
        assert features is not None
        return Condition(
            None if labels is None else labels.repeat(2), torch.cat([features, torch.zeros_like(features)])
        )

    def _guided(self, logits: Tensor) -> Tensor:
        known, unknown = logits.chunk(2)
        return known + self.weight * (known - unknown)


def guided(prior: Prior, weight: float) -> Prior:
    """Return the prior guided with a weight, or the prior itself if the weight is 0.

    Raises:
        NarrowsError: as `Guided`.
    """
    return prior if weight == 0 else Guided(prior, weight)
