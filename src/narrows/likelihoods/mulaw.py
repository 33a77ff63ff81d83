"""Audio as categories: the waveform in [-1, 1], companded and quantised to L levels (G.711; WaveNet, 2016, 2.2).

f(x) = sign(x) ln(1 + mu |x|) / ln(1 + mu), mu = L - 1; log p(x|z) is the log-probability of the levels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from narrows.errors import NarrowsError
from narrows.likelihoods.categorical import CategoricalObservation
from narrows.likelihoods.likelihood import DiscreteLikelihood, Observation
from narrows.waiting import is_on_host

__all__ = ["MuLawCategorical", "compand", "mu_law_decode", "mu_law_encode"]


def compand(x: Tensor, mu: int = 255) -> Tensor:
    """Return f(x) in [-1, 1], [*], of a waveform in [-1, 1]; it reduces the range between loud and quiet sounds."""
    return x.sign() * torch.log1p(mu * x.abs()) / math.log1p(mu)


def mu_law_encode(x: Tensor, levels: int = 256) -> Tensor:
    """Return the mu-law levels, integers from 0 to `levels` - 1, [*], of a waveform in [-1, 1].

    Raises:
        NarrowsError: if the waveform is on a CPU and exceeds [-1, 1]; see `Likelihood.check` for other devices.
    """
    if is_on_host(x):
        _check(x)
    mu = levels - 1
    return ((compand(x.float(), mu) + 1) / 2 * mu + 0.5).floor().long()


def _check(x: Tensor) -> None:
    if not (x.abs() <= 1).all():
        raise NarrowsError(f"the waveform, from {x.min():.4g} to {x.max():.4g}, leaves [-1, 1]: scale or clip it")


def mu_law_decode(codes: Tensor, levels: int = 256) -> Tensor:
    """Return the waveform in [-1, 1], [*], of integer mu-law levels."""
    mu = levels - 1
    companded = 2 * codes.float() / mu - 1
    return companded.sign() * torch.expm1(companded.abs() * math.log1p(mu)) / mu


class MuLawCategorical(DiscreteLikelihood):
    """Independent mu-law levels; the decoder outputs their logits, L groups of C channels.

    Args:
        channels: C, number of channels of the data; 1 for mono sound.
        levels: L, number of mu-law levels; 256 for 8 bits.
    """

    def __init__(self, channels: int, levels: int = 256) -> None:
        super().__init__(channels, features=channels * levels)
        if levels < 2:
            raise NarrowsError(f"levels must be at least 2, not {levels}; 8-bit mu-law has 256")
        self.levels = levels

    def to_levels(self, x: Tensor) -> Tensor:
        """Return `mu_law_encode` of a waveform in [-1, 1]."""
        return mu_law_encode(x, self.levels)

    def to_values(self, levels: Tensor) -> Tensor:
        """Return the waveform of mu-law levels."""
        return mu_law_decode(levels, self.levels)

    def check(self, x: Tensor) -> None:
        """Check that x stays within [-1, 1]; see `Likelihood.check`."""
        _check(x)

    def _observe(self, out: Tensor) -> Observation:
        return _Observation(out.unflatten(1, (-1, self.channels)))


class _Observation(CategoricalObservation):
    def _log_terms(self, x: Tensor) -> Tensor:
        return super()._log_terms(mu_law_encode(x, self.categories))

    @property
    def values(self) -> Tensor:
        """The waveform at each level."""
        return mu_law_decode(super().values, self.categories)

    @property
    def mean(self) -> Tensor:
        """The expected waveform."""
        return (self.pmf() * self.values).sum(-1)

    def sample(self) -> Tensor:
        return mu_law_decode(super().sample(), self.categories)
