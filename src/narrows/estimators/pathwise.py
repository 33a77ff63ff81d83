"""The pathwise (reparameterisation or straight-through) estimator of the ELBO's gradient (Kingma and Welling 2014).

loss = -E_q[log p(x|z)] + beta KL(q(z|x) || p(z)), with its gradient flowing through z.
"""

from __future__ import annotations

from torch import Tensor

from narrows.estimators.evidence import Estimator, Evidence, importance_weighted_bound

__all__ = ["ImportanceWeighted", "Pathwise"]


class Pathwise(Estimator):
    """The negative ELBO, with the KL in closed form.

    Args:
        beta: weight of the KL (1 gives the bound itself; see Higgins et al. 2017 for others).
        samples: S, the number of latents averaged over for each example.
    """

    def __init__(self, beta: float = 1.0, samples: int = 1) -> None:
        super().__init__(samples)
        self.beta = beta

    def forward(self, evidence: Evidence) -> Tensor:
        """Return -E_q[log p(x|z)] + beta KL, [B] nats."""
        return self.beta * evidence.rate - evidence.log_likelihood.mean(0)


class ImportanceWeighted(Estimator):
    """The negative importance-weighted bound (Burda et al. 2016, equation 8).

    Args:
        samples: S, the number of importance samples; 1 gives the ELBO with a sampled KL.
    """

    def __init__(self, samples: int = 8) -> None:
        super().__init__(samples)

    def forward(self, evidence: Evidence) -> Tensor:
        """Return -log 1/S sum_s p(x, z_s) / q(z_s|x), [B] nats."""
        return -importance_weighted_bound(evidence)
