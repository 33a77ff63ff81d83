"""The lowest rate at a given squared error, by constrained optimisation with a Lagrange multiplier.

"Mind Your Bits and Errors: Prioritizing the Bits that Matter in Variational Autoencoders" (2021), equations 3 and 4 and
appendix: minimise the rate subject to E||x - mu(z)||^2 = gamma.
"""

from __future__ import annotations

import logging
import math

import torch
from torch import Tensor

from narrows.bottlenecks.posterior import Draw, Posterior
from narrows.distributed import global_sum
from narrows.errors import NarrowsError
from narrows.estimators.evidence import Estimator, Evidence
from narrows.estimators.pathwise import ImportanceWeighted
from narrows.estimators.vimco import VIMCO
from narrows.waiting import LateReader

__all__ = ["DistortionTarget"]

_LEAST, _MOST = 1e-4, 0.9999
"""Bounds of the multiplier."""

_LATELY = 0.01
"""Weight of one step in the running means of the distortion and the multiplier."""

_NEAR, _AT_BOUND = 0.02, 0.05
"""Tolerances: of D around gamma, as a share of gamma, and of the multiplier around its bounds."""

_LOOK_EVERY = 100
"""Steps between two checks of whether gamma is out of reach."""

logger = logging.getLogger(__name__)


class DistortionTarget(Estimator):
    """Minimises (1 - l) R + l D over the model while l ascends l (D - gamma), so that D settles at gamma.

    R is the rate in nats and D = ||x - mu(z)||^2, summed over the dimensions of x in [0, 1]. The loss is that of the
    wrapped estimator with -l / (1 - l) D as its log-likelihood, multiplied by 1 - l, so it works for continuous and
    discrete latents alike. If the rate is constant, as for quantised codes, there is nothing to trade and the loss is
    l D. The multiplier l is part of the module's state and does not change in evaluation mode.

    The likelihood must have no learned scale (GaussianCalibrated and Bernoulli have none), because this loss gives no
    gradient for one. If gamma is out of reach, l stays near one of its bounds and the running mean of D more than 2%
    from gamma; after `patience` such steps in a row a warning reports the distortion reached. A batch whose D is not
    finite leaves the multiplier as it is. For relaxed codes, D is the error of the decoded mixtures.

    The figures are `multiplier` (l), `squared_error` (D, mean over the batch) and `rate` (R, in nats), and those of the
    wrapped estimator.

    Args:
        gamma: target distortion, a squared error summed over all dimensions of an example.
        estimator: estimator of the loss's gradient; its loss must be a mean over S, and its weight of the KL (`beta`)
            must be 1.
        learning_rate: Adam's step size for the multiplier; the decay rates are 0 and 0.999.
        patience: number of steps in a row after which gamma counts as out of reach.

    Raises:
        NarrowsError: if `gamma`, `learning_rate` or `patience` is not positive and finite, or if `estimator` minimises
            a bound of several latents together or weights the rate.
    """

    multiplier: Tensor
    square: Tensor
    steps: Tensor
    stuck: Tensor
    lately: Tensor

    def __init__(self, gamma: float, estimator: Estimator, learning_rate: float = 2e-4, patience: int = 5000) -> None:
        super().__init__(estimator.samples)
        for name, value in {"gamma": gamma, "learning_rate": learning_rate, "patience": patience}.items():
            if not 0 < value < math.inf:
                raise NarrowsError(f"{name} is {value}: it must be above 0 and finite")
        if isinstance(estimator, ImportanceWeighted | VIMCO):
            raise NarrowsError(
                f"{type(estimator).__name__} minimises a bound of S latents together and cannot hold a mean "
                "distortion: use an estimator such as Pathwise, REINFORCE or StraightThroughGumbel"
            )
        for name, neutral in {"beta": 1.0, "warmup": 0, "free_nats": 0.0}.items():
            if (value := getattr(estimator, name, neutral)) != neutral:
                raise NarrowsError(
                    f"{type(estimator).__name__}.{name} is {value}, but only the multiplier may weight the rate: "
                    f"set --estimator.estimator.{name}={neutral:g}"
                )
        self.gamma, self.estimator = gamma, estimator
        self.learning_rate, self.patience = learning_rate, patience
        self.register_buffer("multiplier", torch.tensor(_MOST))
        self.register_buffer("square", torch.zeros(()))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.register_buffer("stuck", torch.zeros((), dtype=torch.long))
        self.register_buffer("lately", torch.zeros(2))
        self.watched = 0
        self._read = LateReader()

    def draw(self, posterior: Posterior) -> Draw:
        """Draw as the wrapped estimator does."""
        return self.estimator.draw(posterior)

    def forward(self, evidence: Evidence) -> Tensor:
        """Return (1 - l) R + l D of each example, [B], then update l if in training mode."""
        multiplier = self.multiplier.clone()
        distortion = evidence.squared_error()
        price = multiplier / (1 - multiplier)
        loss = (1 - multiplier) * self.estimator(evidence._replace(log_likelihood=-price * distortion))
        found = distortion.detach().mean()
        self.figures = {
            **self.estimator.figures,
            "multiplier": multiplier,
            "squared_error": found,
            "rate": evidence.rate.detach().mean(),
        }
        if self.training:
            total, count = global_sum(torch.stack([found, torch.ones_like(found)]))
            self._ascend(total / count - self.gamma)
            self._watch(total / count)
        return loss

    def _ascend(self, gradient: Tensor) -> None:
        """One step of Adam with decay rates 0 and 0.999, upwards; none where the gradient is not finite."""
        finite = gradient.isfinite()
        self.steps += finite
        self.square.copy_(torch.where(finite, torch.lerp(self.square, gradient.square(), 1e-3), self.square))
        step = gradient / (self.square / (1 - 0.999**self.steps)).sqrt().clamp_min(1e-8)
        self.multiplier.add_(torch.where(finite, step, 0), alpha=self.learning_rate).clamp_(_LEAST, _MOST)

    def _watch(self, distortion: Tensor) -> None:
        """Follow a distortion, if it is finite, and look now and then whether gamma proves out of reach."""
        finite = distortion.isfinite()
        found = torch.stack([distortion, self.multiplier])
        lately = torch.lerp(self.lately, found, (1 / self.steps).clamp_min(_LATELY))
        self.lately.copy_(torch.where(finite, lately, self.lately))
        distortion, multiplier = self.lately
        above = (distortion > (1 + _NEAR) * self.gamma) & (multiplier > 1 - _AT_BOUND)
        below = (distortion < (1 - _NEAR) * self.gamma) & (multiplier < _AT_BOUND)
        self.stuck.copy_(torch.where(finite, (self.stuck + 1) * (above | below), self.stuck))
        self.watched += 1
        if self.watched % _LOOK_EVERY == 0:
            given_up = self.stuck >= self.patience
            self._warn(self._read(torch.stack([given_up, self.stuck, multiplier, distortion, above])))
            self.stuck.masked_fill_(given_up, 0)

    def _warn(self, found: list[float] | None) -> None:
        """Warn if gamma is given up, by [whether it is, steps, multiplier, distortion, whether that is above gamma]."""
        if found is None or not found[0]:
            return
        _, stuck, multiplier, distortion, above = found
        logger.warning(
            "gamma %g is out of reach so far: for %d steps the multiplier has been near a bound (%.4f), and the "
            "squared error is %.4g; %s",
            self.gamma,
            stuck,
            multiplier,
            distortion,
            "raise estimator.gamma, train longer, or give the model more latents or a wider decoder"
            if above
            else "the model loses no more even without any rate: lower estimator.gamma",
        )
