"""The interface of observation models: decoder outputs to p(x|z), with log-probability in nats, mean and samples.

All arithmetic is in float32, even under autocast: `Likelihood.forward` casts the outputs, and nothing after it
multiplies matrices, which is the only operation autocast would turn back to half precision.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Size, Tensor, nn

from narrows.errors import NarrowsError
from narrows.likelihoods.levels import Levels

__all__ = ["DiscreteLikelihood", "LevelLikelihood", "Likelihood", "Observation"]


class Observation(ABC):
    """p(x|z) of a batch of B examples; samples and noise come from torch's global generator.

    Attributes:
        shape: shape of the data x, [B, C, *grid].
    """

    def __init__(self, shape: Size) -> None:
        self.shape = shape

    def log_prob(self, x: Tensor, counted: Tensor | None = None) -> Tensor:
        """Return log p(x|z) in nats, [B], or a lower bound on it if the class documents one.

        Args:
            x: the data, [B, C, *grid].
            counted: True where a position counts, bool [B, *grid]; None if all do. The others may be padding.

        Raises:
            NarrowsError: if x has another shape.
            NarrowsError: if x is on a CPU and has values that the observation model cannot describe; see
                `Likelihood.check` for other devices.
        """
        self._check_shape(x)
        terms = self._log_terms(x)
        if counted is not None:
            between = [1] * (terms.dim() - counted.dim())
            terms = terms.where(counted.view(len(x), *between, *counted.shape[1:]), 0)
        return terms.flatten(1).sum(1)

    @property
    def values(self) -> Tensor:
        """The L levels that a value of x can have, in the order of `log_pmf`, [L].

        Raises:
            NarrowsError: if x is continuous.
        """
        raise NarrowsError(f"{type(self).__qualname__} describes no discrete levels, whose probabilities can be coded")

    def log_pmf(self, x: Tensor | None = None) -> Tensor:
        """Return the log-probability in nats of every level for every value of x, [B, C, *grid, L].

        Those at the values of x sum to `log_prob(x)`. The Gaussians are an exception, because their `log_prob` is a
        bound: theirs is the probability of the level nearest to a draw, as `sample` returns it.

        Args:
            x: [B, C, *grid]. Each channel reads only the channels before it, so a decoder may fill in the channels one
                after another. None if the channels are independent.

        Raises:
            NarrowsError: if x is continuous, or if it is required and missing or of another shape.
        """
        raise NarrowsError(f"{type(self).__qualname__} describes no discrete levels, whose probabilities can be coded")

    def pmf(self, x: Tensor | None = None) -> Tensor:
        """Return the probability of every level for every value of x, [B, C, *grid, L]; see `log_pmf`."""
        return self.log_pmf(x).exp()

    def _check_shape(self, x: Tensor) -> None:
        if x.shape != self.shape:
            raise NarrowsError(
                f"the data are {list(x.shape)} but the decoder describes {list(self.shape)}: "
                "its grid and the likelihood's `channels` must be those of the data"
            )

    @abstractmethod
    def _log_terms(self, x: Tensor) -> Tensor:
        """Return the terms, [B, ..., *grid], that sum to log p(x|z) of x [B, C, *grid]."""

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """E[x|z], [B, C, *grid], which reconstructions show."""

    @abstractmethod
    def sample(self) -> Tensor:
        """Draw x ~ p(x|z), [B, C, *grid]."""


class Likelihood(nn.Module, ABC):
    """Maps decoder outputs [B, `features`, *grid] to the Observation of data [B, `channels`, *grid].

    Attributes:
        channels: C, number of channels of the data.
        features: number of channels that the decoder must output.
    """

    learns_scale: ClassVar[bool] = False
    """Whether it has a scale, learnt by gradient, that the mean does not depend on."""

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        self.channels = channels
        self.features = features

    def forward(self, out: Tensor) -> Observation:
        """Return p(x|z) for decoder outputs [B, `features`, *grid].

        Raises:
            NarrowsError: if the number of channels is not `features`.
        """
        if out.shape[1] != self.features:
            raise NarrowsError(
                f"{type(self).__name__} needs {self.features} channels from the decoder, not {out.shape[1]}: "
                "build the decoder with the likelihood's `features`"
            )
        return self._observe(out.float())

    def check(self, x: Tensor) -> None:
        """Check that this model can describe the values of data x [B, C, *grid].

        The check synchronises with the device of x. Therefore `log_prob` only checks data on a CPU; call this method
        once before moving other data to a device.

        Raises:
            NarrowsError: if it cannot.
        """

    @abstractmethod
    def _observe(self, out: Tensor) -> Observation:
        """Do the work of `forward`, for float32 outputs of the right shape."""


class DiscreteLikelihood(Likelihood):
    """An observation model of discrete levels that are independent of each other given the decoder's outputs.

    An autoregressive decoder reads the data as these levels and draws them position by position.
    """

    def logits(self, out: Tensor) -> Tensor:
        """Return the logits of the levels at one position, given the decoder's outputs for it, [B, `features`].

        They are [B, L], or [B, C, L] for data with C channels, whose values are drawn together.
        """
        return out

    @abstractmethod
    def to_levels(self, x: Tensor) -> Tensor:
        """Return the levels of data, integers from 0 to L - 1, [*]."""

    @abstractmethod
    def to_values(self, levels: Tensor) -> Tensor:
        """Return the data values of levels, [*]."""


class LevelLikelihood(Likelihood):
    """An observation model of images on levels.

    Attributes:
        levels: the levels.
    """

    levels: Levels

    def check(self, x: Tensor) -> None:
        """Check that x lies on the levels; see `Likelihood.check`."""
        self.levels.check(x)
