"""A held distortion: as few nats as possible for a given squared error, by a multiplier that finds the exchange rate.

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
"""What the multiplier is projected to."""

_LATELY = 0.01
"""The share of a step in the distortion and the multiplier as they were lately."""

_NEAR, _AT_BOUND = 0.02, 0.05
"""How far D may be from gamma, as a share of it, and be held; and how far the multiplier from a bound, and be at it."""

_LOOK_EVERY = 100
"""Steps between two looks at whether gamma is out of reach."""

logger = logging.getLogger(__name__)


class DistortionTarget(Estimator):
    """(1 - l) R + l D, minimised over the model while l ascends l (D - gamma): D settles at gamma.

    R is the rate in nats and D = ||x - mu(z)||^2, summed over the dimensions of x in [0, 1]. The loss is that of any
    other estimator, with -l / (1 - l) D in the place of the log-likelihood, times 1 - l: so it holds the distortion of
    continuous and of discrete latents alike. Where the rate is constant, as of quantised codes, there is nothing to
    trade, and the loss is l D. The multiplier is part of the state; in evaluation mode it stays.

    The likelihood must have no scale to learn, as GaussianCalibrated and Bernoulli have none: this loss has no gradient
    for one. A gamma that is out of reach leaves l near one of its bounds, and a running mean of D more than 2% away;
    after `patience` such steps in a row that is warned of, with the distortion reached. A batch whose D is not finite
    moves nothing. Of relaxed codes D is that of the mixtures that are decoded.

    The figures are `multiplier` (l), `squared_error` (D, the mean over the batch), `rate` (R, in nats), beside those of
    the estimator within.

    Args:
        gamma: the distortion to hold, a squared error summed over all dimensions of an example.
        estimator: how the gradient of the loss is found; one whose loss is the mean over S, and whose weight of the KL
            (`beta`) is 1.
        learning_rate: Adam's step size for the multiplier, whose decay rates are 0 and 0.999.
        patience: the steps in a row after which gamma counts as out of reach.

    Raises:
        NarrowsError: if `gamma`, `learning_rate` or `patience` is not above 0 and finite, or `estimator` does not suit.
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
                f"{type(estimator).__name__} minimises a bound of S latents together, and holds no mean distortion: "
                "use an estimator such as Pathwise, REINFORCE or StraightThroughGumbel"
            )
        if getattr(estimator, "beta", 1.0) != 1:
            raise NarrowsError(
                f"{type(estimator).__name__}.beta is {estimator.beta}: the multiplier alone weighs the rate; "
                "set --estimator.estimator.beta=1"
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
        """Draw as the estimator within does."""
        return self.estimator.draw(posterior)

    def forward(self, evidence: Evidence) -> Tensor:
        """(1 - l) R + l D of each example, [B]; in training mode l then takes a step."""
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
