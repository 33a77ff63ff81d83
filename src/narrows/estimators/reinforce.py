"""REINFORCE: the reward of sampled codes minus a baseline that does not depend on them, times the score d log q.

R. J. Williams, "Simple Statistical Gradient-Following Algorithms" (1992); the learned baseline: A. Mnih, K. Gregor,
"Neural Variational Inference and Learning in Belief Networks" (2014); the leave-one-out baseline: W. Kool, H. van Hoof,
M. Welling, "Buy 4 REINFORCE Samples, Get a Baseline for Free!" (2019).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from narrows.distributed import global_sum
from narrows.errors import NarrowsError
from narrows.estimators.evidence import Evidence
from narrows.estimators.score import ScoreEstimator, gradient_only

__all__ = ["REINFORCE", "Baseline", "LearnedBaseline", "LeaveOneOut", "MovingAverage", "NoBaseline"]


class Baseline(nn.Module, ABC):
    """Base class of baselines, which are subtracted from rewards.

    Attributes:
        least: smallest number of samples per example it needs.
    """

    least = 1

    @abstractmethod
    def forward(self, rewards: Tensor, x: Tensor) -> Tensor:
        """Return the baselines, [S, B], of rewards [S, B] of examples x [B, ...].

        The baseline of a sample must not depend on its own reward. Parameters, if any, learn to predict the rewards
        under a squared error.
        """


class NoBaseline(Baseline):
    """The zero baseline: the plain reward, unbiased and with the largest variance."""

    def forward(self, rewards: Tensor, x: Tensor) -> Tensor:
        """Return zeros, [S, B]."""
        return torch.zeros_like(rewards)


class MovingAverage(Baseline):
    """The exponential moving average of the rewards of earlier training batches.

    For the first batch it is the mean of the other rewards, because one huge step would spoil the optimiser's moments
    for many steps.

    Args:
        decay: weight of the past average in each update, in [0, 1).

    Raises:
        NarrowsError: if `decay` is out of range.
    """

    total: Tensor
    weight: Tensor

    def __init__(self, decay: float = 0.99) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise NarrowsError(f"decay is {decay}: it must be in [0, 1)")
        self.decay = decay
        self.register_buffer("total", torch.zeros(()))
        self.register_buffer("weight", torch.zeros(()))

    def forward(self, rewards: Tensor, x: Tensor) -> Tensor:
        """Return the average before these rewards, [S, B], then add them to it if in training mode."""
        others = (rewards.sum() - rewards) / max(rewards.numel() - 1, 1)
        average = torch.where(self.weight > 0, (self.total / self.weight).to(rewards.dtype), others)
        if self.training:
            summed, count = global_sum(torch.stack([rewards.sum(), rewards.new_full((), rewards.numel())]))
            self.total.lerp_((summed / count).to(self.total.dtype), 1 - self.decay)
            self.weight.lerp_(torch.ones_like(self.weight), 1 - self.decay)
        return average


class LearnedBaseline(Baseline):
    """A small network that predicts the reward from x, added to a moving average (NVIL).

    Args:
        inputs: d, the number of dimensions of one example, such as 784 for MNIST.
        width: number of hidden units (100 in the paper).
        decay: decay of the moving average.
    """

    def __init__(self, inputs: int, width: int = 100, decay: float = 0.99) -> None:
        super().__init__()
        self.inputs = inputs
        self.network = nn.Sequential(nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, 1))
        self.average = MovingAverage(decay)

    def forward(self, rewards: Tensor, x: Tensor) -> Tensor:
        """Return the moving average plus the network's output for each x, [S, B].

        Raises:
            NarrowsError: if the examples do not have `inputs` dimensions.
        """
        flat = x.flatten(1)
        if flat.shape[1] != self.inputs:
            raise NarrowsError(
                f"LearnedBaseline.inputs is {self.inputs}: set it to {flat.shape[1]}, the dimensions of an example"
            )
        return self.average(rewards, x) + self.network(flat).squeeze(1)


class LeaveOneOut(Baseline):
    """The mean reward of the other samples of the same example."""

    least = 2

    def forward(self, rewards: Tensor, x: Tensor) -> Tensor:
        """Return (sum_j r_j - r_s) / (S - 1), [S, B]."""
        return (rewards.sum(0) - rewards) / (len(rewards) - 1)


class REINFORCE(ScoreEstimator):
    """The negative ELBO by the score function, with reward log p(x|z) - beta (log q(z|x) - log p(z)).

    The KL is sampled, so the posterior's KL needs no closed form. The gradient is unbiased with every baseline.

    Args:
        baseline: makes the baseline of the rewards.
        beta: weight of the KL.
        samples: S, the number of codes averaged over for each example.
        decoder_samples: the number of samples that the decoder learns from, without bias; None for all.

    Raises:
        NarrowsError: if there are too few `samples` for the baseline, or `decoder_samples` is not from 1 to `samples`.
    """

    def __init__(
        self,
        baseline: Callable[[], Baseline] = LeaveOneOut,
        beta: float = 1.0,
        samples: int = 8,
        decoder_samples: int | None = None,
    ) -> None:
        made = baseline()
        super().__init__(samples, made.least, decoder_samples)
        self.baseline = made
        self.beta = beta

    def forward(self, evidence: Evidence) -> Tensor:
        """Return the sampled -E_q[log p(x|z)] + beta KL, [B] nats."""
        reward = evidence.log_likelihood - self.beta * (evidence.log_q.detach() - evidence.log_p)
        advantage = reward.detach() - self.baseline(reward.detach(), evidence.x)
        self.figures = {"advantage": advantage.detach().square().mean().sqrt()}
        surrogate = advantage.detach() * evidence.log_q - advantage.square()
        return -self.average(reward) - gradient_only(surrogate).mean(0)
