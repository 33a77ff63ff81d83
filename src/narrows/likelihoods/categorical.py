"""Integer data, such as codes: log p(x|z) = sum log softmax(out)_x over K categories."""

from __future__ import annotations

import torch
from torch import Tensor

from narrows.errors import NarrowsError
from narrows.likelihoods.likelihood import Likelihood, Observation
from narrows.waiting import is_on_host

__all__ = ["Categorical", "CategoricalObservation"]


class Categorical(Likelihood):
    """Independent categories; the decoder outputs their logits, K groups of C channels.

    Args:
        channels: C, number of channels of the data.
        categories: K; data are integers from 0 to K - 1.
    """

    def __init__(self, channels: int, categories: int) -> None:
        super().__init__(channels, features=channels * categories)
        if categories < 2:
            raise NarrowsError(f"categories must be at least 2, not {categories}")
        self.categories = categories

    def check(self, x: Tensor) -> None:
        """Check that x is integer and between 0 and K - 1; see `Likelihood.check`."""
        _check(x, self.categories)

    def _observe(self, out: Tensor) -> Observation:
        return CategoricalObservation(out.unflatten(1, (-1, self.channels)))


def _check(x: Tensor, categories: int) -> None:
    if x.is_floating_point() or not ((x >= 0) & (x < categories)).all():
        raise NarrowsError(
            f"Categorical describes integers from 0 to {categories - 1}, not {x.dtype} from {x.min()} to {x.max()}: "
            "set `categories` to the number that the data have"
        )


class CategoricalObservation(Observation):
    """Independent categories with logits [B, K, C, *grid]; x is integer, [B, C, *grid]."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__(logits[:, 0].shape)
        self.categories = logits.shape[1]
        self.log_probs = logits.log_softmax(1)

    def _log_terms(self, x: Tensor) -> Tensor:
        if is_on_host(x):
            _check(x, self.categories)
        return self.log_probs.take_along_dim(x.long().unsqueeze(1), dim=1)

    @property
    def values(self) -> Tensor:
        """The categories, 0 to K - 1."""
        return torch.arange(self.categories, device=self.log_probs.device)

    def log_pmf(self, x: Tensor | None = None) -> Tensor:
        """Return log p(x|z) of every category, [B, C, *grid, K]."""
        return self.log_probs.movedim(1, -1)

    @property
    def mean(self) -> Tensor:
        """The most probable category, because categories are names and cannot be averaged."""
        return self.log_probs.argmax(1)

    def sample(self) -> Tensor:
        """Draw x ~ p(x|z), [B, C, *grid]."""
        return torch.distributions.Categorical(logits=self.log_probs.movedim(1, -1)).sample()
