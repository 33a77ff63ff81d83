"""The score function, d E_q[f(z)] = E_q[f(z) d log q(z)], for latents that pass no gradient."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from narrows.bottlenecks.posterior import Draw, Posterior
from narrows.errors import NarrowsError
from narrows.estimators.evidence import Estimator

__all__ = ["ScoreEstimator", "gradient_only"]


class ScoreEstimator(Estimator):
    """Base class of estimators that train the encoder through log q(z|x) of sampled codes.

    The encoder's gradient needs the log-likelihoods of all S samples, but no gradient through the decoder, which is
    twice the work of the log-likelihoods. With `decoder_samples` K < S, the decoder learns from the first K samples:
    its gradient keeps its expectation and has more variance, and a step is up to three times cheaper.

    Args:
        samples: S, the number of codes drawn for each example.
        least: smallest S allowed.
        decoder_samples: K, the number of samples that the decoder learns from; None for all.

    Raises:
        NarrowsError: if `samples` is below `least`, or `decoder_samples` is not from 1 to `samples`.
    """

    def __init__(self, samples: int, least: int = 1, decoder_samples: int | None = None) -> None:
        super().__init__(samples, least)
        if decoder_samples is not None and not 1 <= decoder_samples <= samples:
            raise NarrowsError(
                f"{type(self).__name__}.decoder_samples is {decoder_samples}: it must be from 1 to samples, {samples}, "
                "or null for all"
            )
        self.decoder_samples = samples if decoder_samples is None else decoder_samples

    def draw(self, posterior: Posterior) -> Draw:
        """Draw S codes of each example.

        Raises:
            NarrowsError: if the posterior does not sample codes.
        """
        drawn = self.require_sampled(posterior).draw(self.samples)
        return drawn._replace(learnt=self.decoder_samples)

    def average(self, values: Tensor, mean: Callable[[Tensor], Tensor] = lambda values: values.mean(0)) -> Tensor:
        """Return the mean over S of values [S, B], as [B], with the gradient of that over the first K samples."""
        if self.decoder_samples == len(values):
            return mean(values)
        return mean(values.detach()) + gradient_only(mean(values[: self.decoder_samples]))


def gradient_only(loss: Tensor) -> Tensor:
    """Return zeros with the gradient of `loss`, to add to another loss without changing its value."""
    return loss - loss.detach()
