"""Gradient skipping: a step whose gradient is far larger than those before it is not taken.

R. Child, "Very Deep VAEs Generalize Autoregressive Models and Can Outperform Them on Images" (2021), section 4, with a
threshold that follows the norms: a fixed one can come to skip every step, and then nothing ever changes again.
"""

from __future__ import annotations

import logging
import math

import torch
from torch import Tensor, nn

__all__ = ["GradientSkip"]

WINDOW = 100
"""The norms that the threshold is made of, the last ones."""

WARN_AFTER = 20

logger = logging.getLogger(__name__)


class GradientSkip(nn.Module):
    """Takes a gradient whose norm is at most `factor` times the median of the last 100, skipped ones among them.

    Because a skipped norm counts too, at most half a window is skipped in a row before its size is the usual one. It is
    a module, so that its norms are kept with the rest of a training run's state.

    Args:
        factor: how far above the median a norm may be, above 1.
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
        """Whether to take the step of a gradient of this norm, a scalar; a norm that is not finite is never taken.

        The answer decides what the host does next, so that it waits for the device, once.
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
                "%d steps in a row were skipped, for their gradients' norms are not finite or over %g times the median "
                "before; the last is %.3g: lower training.learning_rate, or raise training.skip_factor",
                WARN_AFTER,
                self.factor,
                norm.item(),
            )
        return taken
