"""The score function, d E_q[f(z)] = E_q[f(z) d log q(z)], for latents that pass no gradient."""

from __future__ import annotations

from torch import Tensor

from narrows.bottlenecks.posterior import Draw, Posterior
from narrows.estimators.evidence import Estimator

__all__ = ["ScoreEstimator", "gradient_only"]


class ScoreEstimator(Estimator):
    """Base class of estimators that train the encoder through log q(z|x) of sampled codes."""

    def draw(self, posterior: Posterior) -> Draw:
        """Draw S codes of each example.

        Raises:
            NarrowsError: if the posterior does not sample codes.
        """
        return self.require_sampled(posterior).draw(self.samples)


def gradient_only(loss: Tensor) -> Tensor:
    """Return zeros with the gradient of `loss`, to add to another loss without changing its value."""
    return loss - loss.detach()
