"""What every observation model offers: decoder outputs become p(x|z), with log-probability in nats, mean and samples.

All arithmetic is float32 whatever the autocast: `Likelihood.forward` casts the decoder's outputs, and nothing after it
multiplies matrices, the one thing autocast would take back to half precision.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Size, Tensor, nn

from narrows.errors import NarrowsError
from narrows.likelihoods.levels import Levels

__all__ = ["DiscreteLikelihood", "LevelLikelihood", "Likelihood", "Observation"]


class Observation(ABC):
    """p(x|z) of a batch of B examples; `sample` and any noise draw from torch's global generator.

    Attributes:
        shape: the shape of the x it describes, [B, C, *grid].
    """

    def __init__(self, shape: Size) -> None:
        self.shape = shape

    def log_prob(self, x: Tensor, counted: Tensor | None = None) -> Tensor:
        """Return log p(x|z), or a lower bound on it where the class says so, in nats, [B].

        Args:
            x: the data, [B, C, *grid].
            counted: the positions that count, bool [B, *grid]; None for all. The others may be padding.

        Raises:
            NarrowsError: if x has another shape.
            NarrowsError: if x is on a CPU and has values that the observation model does not describe; see
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
        """The L levels that a value of x can take, in the order of `log_pmf`, [L].

        Raises:
            NarrowsError: if x is continuous.
        """
        raise NarrowsError(f"{type(self).__qualname__} describes no discrete levels, whose probabilities can be coded")

    def log_pmf(self, x: Tensor | None = None) -> Tensor:
        """Return the log-probability in nats of every level of every value of x, [B, C, *grid, L].

        Those at the values of x sum to `log_prob(x)`, but for the Gaussians, whose `log_prob` is a bound: theirs are of
        the level nearest to a draw, as `sample` returns it.

        Args:
            x: [B, C, *grid]; of each channel only those before it are read, so that a decoder may fill in one channel
                after another. None where the channels are independent.

        Raises:
            NarrowsError: if x is continuous, or is needed and missing or of another shape.
        """
        raise NarrowsError(f"{type(self).__qualname__} describes no discrete levels, whose probabilities can be coded")

    def pmf(self, x: Tensor | None = None) -> Tensor:
        """Return the probability of every level of every value of x, [B, C, *grid, L]; see `log_pmf`."""
        return self.log_pmf(x).exp()

    def _check_shape(self, x: Tensor) -> None:
        if x.shape != self.shape:
            raise NarrowsError(
                f"the data are {list(x.shape)} but the decoder describes {list(self.shape)}: "
                "its grid and the likelihood's `channels` must be those of the data"
            )

    @abstractmethod
    def _log_terms(self, x: Tensor) -> Tensor:
        """The terms, [B, ..., *grid], that sum to log p(x|z) of x [B, C, *grid]."""

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """E[x|z], [B, C, *grid]: what a reconstruction shows."""

    @abstractmethod
    def sample(self) -> Tensor:
        """Draw x ~ p(x|z), [B, C, *grid]."""


class Likelihood(nn.Module, ABC):
    """Maps decoder outputs [B, `features`, *grid] to the Observation of data [B, `channels`, *grid].

    Attributes:
        channels: C, the channels of the data.
        features: the channels the decoder must put out.
    """

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        self.channels = channels
        self.features = features

    def forward(self, out: Tensor) -> Observation:
        """Return p(x|z) for decoder outputs [B, `features`, *grid].

        Raises:
            NarrowsError: if the decoder's outputs have other than `features` channels.
        """
        if out.shape[1] != self.features:
            raise NarrowsError(
                f"{type(self).__name__} needs {self.features} channels from the decoder, not {out.shape[1]}: "
                "build the decoder with the likelihood's `features`"
            )
        return self._observe(out.float())

    def check(self, x: Tensor) -> None:
        """Check that the values of data x [B, C, *grid] are such as this model describes.

        It waits for the device that x is on. So `log_prob` checks data on a CPU alone: whoever brings other data to a
        device calls this once, before.

        Raises:
            NarrowsError: if they are not.
        """

    @abstractmethod
    def _observe(self, out: Tensor) -> Observation:
        """`forward` for float32 outputs of the right shape."""


class DiscreteLikelihood(Likelihood):
    """An observation model of data as discrete levels, of which the decoder gives the logits: [B, L, *grid] of C = 1.

    An autoregressive decoder reads data as these levels, and draws them one after another.
    """

    @abstractmethod
    def to_levels(self, x: Tensor) -> Tensor:
        """Return the levels of data, integers from 0 to L - 1, [*]."""

    @abstractmethod
    def to_values(self, levels: Tensor) -> Tensor:
        """Return the data that levels stand for, [*]."""


class LevelLikelihood(Likelihood):
    """An observation model of images on levels.

    Attributes:
        levels: the levels.
    """

    levels: Levels

    def check(self, x: Tensor) -> None:
        """Check that x lies on the levels; see `Likelihood.check`."""
        self.levels.check(x)
