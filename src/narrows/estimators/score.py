"""The score function: d E_q[f(z)] = E_q[f(z) d log q(z)], for latents that no gradient passes through."""

from __future__ import annotations

from torch import Tensor

from narrows.bottlenecks.posterior import Draw, Posterior
from narrows.estimators.evidence import Estimator

__all__ = ["ScoreEstimator", "gradient_only"]


class ScoreEstimator(Estimator):
    """An estimator that reaches the encoder through log q(z|x) of sampled codes."""

    def draw(self, posterior: Posterior) -> Draw:
        """Draw S codes of each example.

        Raises:
            NarrowsError: if the posterior is not one that samples codes.
        """
        return self.require_sampled(posterior).draw(self.samples)


def gradient_only(loss: Tensor) -> Tensor:
    """Zeros with the gradient of `loss`, to add to a loss whose value they leave alone."""
    return loss - loss.detach()
