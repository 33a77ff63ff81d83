"""Gradient skipping: steps with a gradient far larger than recent ones are skipped.

R. Child, "Very Deep VAEs Generalize Autoregressive Models and Can Outperform Them on Images" (2021), section 4, but
with a threshold that follows the norms: with a fixed one, training can reach a point where it skips every step.
"""

from __future__ import annotations

import logging
import math

import torch
from torch import Tensor, nn

__all__ = ["GradientSkip"]

WINDOW = 100
"""Number of recent norms behind the threshold."""

WARN_AFTER = 20

logger = logging.getLogger(__name__)


class GradientSkip(nn.Module):
    """Accepts a gradient if its norm is at most `factor` times the median of the last 100, including skipped ones.

    Because skipped norms count, at most half a window is skipped in a row before the median has adapted. The class is a
    module so that its norms are saved with the rest of the training state.

    Args:
        factor: largest ratio of a norm to the median, above 1.
    """

    norms: Tensor
    seen: Tensor

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.in_a_row = 0
        self.register_buffer("norms", torch.zeros(WINDOW))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def forward(self, norm: Tensor) -> bool:
        """Return whether to take a step with this gradient norm, a scalar; False if it is not finite.

        The host waits for the device here, because the answer decides what it does next.
        """
        known = torch.arange(WINDOW, device=norm.device) < self.seen
        usual = torch.where(known, self.norms, math.nan).nanmedian()
        # Without norms before it there is nothing to compare with.
        fits = (norm <= self.factor * usual) | (self.seen == 0)
        finite = norm.isfinite()
        # What is not finite has no size to be remembered by.
        here = (torch.arange(WINDOW, device=norm.device) == self.seen % WINDOW) & finite
        self.norms.copy_(torch.where(here, norm, self.norms))
        self.seen += finite
        taken = bool(finite & fits)
        self.in_a_row = 0 if taken else self.in_a_row + 1
        if self.in_a_row == WARN_AFTER:
            logger.warning(
                "%d steps in a row were skipped because their gradient norms were not finite or more than %g times the "
                "median; the last is %.3g: lower training.learning_rate, or raise training.skip_factor",
                WARN_AFTER,
                self.factor,
                norm.item(),
            )
        return taken
