"""REINFORCE: the reward of sampled codes, less a baseline that does not depend on them, times the score d log q.

R. J. Williams, "Simple Statistical Gradient-Following Algorithms" (1992); the learned baseline: A. Mnih, K. Gregor,
"Neural Variational Inference and Learning in Belief Networks" (2014); that of the other samples: W. Kool, H. van Hoof,
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
    """What a reward is compared with.

    Attributes:
        least: the samples of an example it needs.
    """

    least = 1

    @abstractmethod
    def forward(self, rewards: Tensor, x: Tensor) -> Tensor:
        """The baselines of rewards [S, B] of examples x [B, ...]: [S, B], that of a sample independent of its reward.

        Where they have parameters, these learn to foresee the rewards in squared error.
        """


class NoBaseline(Baseline):
    """Zero: the reward itself, unbiased and of the largest variance."""

    def forward(self, rewards: Tensor, x: Tensor) -> Tensor:
        """Zeros, [S, B]."""
        return torch.zeros_like(rewards)


class MovingAverage(Baseline):
    """The mean of the rewards of the training batches before this one, the later ones weighing more.

    In the first batch it is the mean of the other rewards, lest one huge step spoil an optimiser's moments for long.

    Args:
        decay: the share of the past that a batch keeps, in [0, 1).

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
        """The average before these rewards, [S, B]; in training mode they then join it."""
        others = (rewards.sum() - rewards) / max(rewards.numel() - 1, 1)
        average = torch.where(self.weight > 0, (self.total / self.weight).to(rewards.dtype), others)
        if self.training:
            summed, count = global_sum(torch.stack([rewards.sum(), rewards.new_full((), rewards.numel())]))
            self.total.lerp_((summed / count).to(self.total.dtype), 1 - self.decay)
            self.weight.lerp_(torch.ones_like(self.weight), 1 - self.decay)
        return average


class LearnedBaseline(Baseline):
    """A small network that foresees the reward of x, added to a moving average (NVIL).

    Args:
        inputs: d, the dimensions of one example, such as 784 for MNIST.
        width: hidden units (100 in the paper).
        decay: that of the moving average.
    """

    def __init__(self, inputs: int, width: int = 100, decay: float = 0.99) -> None:
        super().__init__()
        self.inputs = inputs
        self.network = nn.Sequential(nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, 1))
        self.average = MovingAverage(decay)

    def forward(self, rewards: Tensor, x: Tensor) -> Tensor:
        """The average and what the network adds to it for each x, [S, B].

        Raises:
            NarrowsError: if an example has other than `inputs` dimensions.
        """
        flat = x.flatten(1)
        if flat.shape[1] != self.inputs:
            raise NarrowsError(f"LearnedBaseline.inputs is {self.inputs}: set it to {flat.shape[1]}, as the data have")
        return self.average(rewards, x) + self.network(flat).squeeze(1)


class LeaveOneOut(Baseline):
    """The mean reward of the other samples of the same example."""

    least = 2

    def forward(self, rewards: Tensor, x: Tensor) -> Tensor:
        """(sum_j r_j - r_s) / (S - 1), [S, B]."""
        return (rewards.sum(0) - rewards) / (len(rewards) - 1)


class REINFORCE(ScoreEstimator):
    """The negative ELBO by the score function: the reward is log p(x|z) - beta (log q(z|x) - log p(z)).

    The KL is thus sampled, for a posterior whose KL has no closed form. Unbiased with every baseline.

    Args:
        baseline: makes what the rewards are compared with.
        beta: the weight of the KL.
        samples: S, the codes averaged over for each example.

    Raises:
        NarrowsError: if `samples` are too few for the baseline.
    """

    def __init__(self, baseline: Callable[[], Baseline] = LeaveOneOut, beta: float = 1.0, samples: int = 8) -> None:
        made = baseline()
        super().__init__(samples, made.least)
        self.baseline = made
        self.beta = beta

    def forward(self, evidence: Evidence) -> Tensor:
        """The sampled -E_q[log p(x|z)] + beta KL, [B] nats."""
        reward = evidence.log_likelihood - self.beta * (evidence.log_q.detach() - evidence.log_p)
        advantage = reward.detach() - self.baseline(reward.detach(), evidence.x)
        self.figures = {"advantage": advantage.detach().square().mean().sqrt()}
        surrogate = advantage.detach() * evidence.log_q - advantage.square()
        return -(reward + gradient_only(surrogate)).mean(0)
