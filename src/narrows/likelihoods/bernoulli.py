"""Binary pixels: log p(x|z) = sum x log p + (1 - x) log(1 - p) with p = sigmoid(out), x in {0, 1}.

Grey values of x are refused, because the sum would then not be a log-probability.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from narrows.errors import NarrowsError
from narrows.likelihoods.likelihood import DiscreteLikelihood, Observation
from narrows.waiting import is_on_host

__all__ = ["Bernoulli"]


class Bernoulli(DiscreteLikelihood):
    """Independent Bernoulli pixels; the decoder outputs their logits.

    Args:
        channels: C, number of channels of the data.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, features=channels)

    def check(self, x: Tensor) -> None:
        """Check that x is 0 or 1 everywhere; see `Likelihood.check`."""
        _check(x)

    def logits(self, out: Tensor) -> Tensor:
        """Return the logits of 0 and 1, [B, C, 2]; see `DiscreteLikelihood.logits`."""
        return torch.stack([torch.zeros_like(out), out], -1)

    def to_levels(self, x: Tensor) -> Tensor:
        """Return x as integers, 0 or 1."""
        return x.long()

    def to_values(self, levels: Tensor) -> Tensor:
        """Return 0 or 1 as floats."""
        return levels.float()

    def _observe(self, out: Tensor) -> Observation:
        return _Observation(out)


def _check(x: Tensor) -> None:
    if not ((x == 0) | (x == 1)).all():
        raise NarrowsError(
            "Bernoulli describes values that are 0 or 1: make the data binary (data.binary=true, or without "
            "data.velocity), or choose another likelihood"
        )


class _Observation(Observation):
    def __init__(self, logits: Tensor) -> None:
        super().__init__(logits.shape)
        self.logits = logits

    def _log_terms(self, x: Tensor) -> Tensor:
        if is_on_host(x):
            _check(x)
        return -F.binary_cross_entropy_with_logits(self.logits, x.float(), reduction="none")

    @property
    def values(self) -> Tensor:
        return torch.arange(2.0, device=self.logits.device)

    def log_pmf(self, x: Tensor | None = None) -> Tensor:
        return F.logsigmoid(torch.stack([-self.logits, self.logits], -1))

    @property
    def mean(self) -> Tensor:
        return self.logits.sigmoid()

    def sample(self) -> Tensor:
        return torch.bernoulli(self.mean)
