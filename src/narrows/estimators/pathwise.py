"""The pathwise (reparameterisation or straight-through) estimator of the ELBO's gradient (Kingma and Welling 2014).

loss = -E_q[log p(x|z)] + beta KL(q(z|x) || p(z)), with its gradient flowing through z.
"""

from __future__ import annotations

import torch
from torch import Tensor

from narrows.errors import NarrowsError
from narrows.estimators.evidence import Estimator, Evidence, importance_weighted_bound

__all__ = ["ImportanceWeighted", "Pathwise"]


class Pathwise(Estimator):
    """The negative ELBO, with the KL in closed form.

    The last two arguments keep the latents in use if the decoder could do without them, as in sequences: a weight of
    the KL that rises at the start (Bowman et al. 2016), and a part of it that costs nothing (Kingma et al. 2016).

    Args:
        beta: weight of the KL (1 gives the bound itself; see Higgins et al. 2017 for others).
        samples: S, the number of latents averaged over for each example.
        warmup: number of training steps over which the weight of the KL rises linearly from 0 to `beta`.
        free_nats: nats of the KL of each example that cost nothing.

    Raises:
        NarrowsError: if `warmup` or `free_nats` is negative.
    """

    steps: Tensor

    def __init__(self, beta: float = 1.0, samples: int = 1, warmup: int = 0, free_nats: float = 0.0) -> None:
        super().__init__(samples)
        for name, value in {"warmup": warmup, "free_nats": free_nats}.items():
            if value < 0:
                raise NarrowsError(f"{name} is {value}: it must be at least 0")
        self.beta, self.warmup, self.free_nats = beta, warmup, free_nats
        if warmup:
            self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, evidence: Evidence) -> Tensor:
        """Return -E_q[log p(x|z)] + beta KL, [B] nats, with the KL weighted as the arguments say."""
        rate = evidence.rate.clamp(min=self.free_nats) if self.free_nats else evidence.rate
        return self._weight() * rate - evidence.log_likelihood.mean(0)

    def _weight(self) -> Tensor | float:
        if not self.warmup or not self.training:
            return self.beta
        self.steps += 1
        return self.beta * (self.steps / self.warmup).clamp(max=1)


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
