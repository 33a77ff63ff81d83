"""Search for candidates of least cost by cross-entropy rounds on a prior.

The first round draws candidates from the prior. Each later round weights the best candidates so far by
exp(-cost / temperature), with the temperature at which the effective sample size is a given share of them (the rule of
DAPS: M. Drolet et al., "Discrete Variational Autoencoding via Policy Search"), draws parents by these weights, and new
candidates from the prior tilted towards the parents (R. Rubinstein 1999, "The cross-entropy method").
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from narrows.errors import NarrowsError
from narrows.estimators import DAPS, Evidence
from narrows.modalities.motion.goals import Costs
from narrows.modalities.motion.proposals import Candidates, Proposals
from narrows.progress import Progress, hidden

__all__ = [
    "CostsOf",
    "Found",
    "Outcome",
    "Round",
    "SearchSettings",
    "Weights",
    "search",
    "weights_of",
]

CostsOf = Callable[[Candidates], Costs]
"""Decodes candidates and returns their costs."""


@dataclass(frozen=True)
class SearchSettings:
    """Settings of a search.

    Args:
        decodings: candidates decoded in all, at most.
        rounds: rounds that they are spread over; with 1, the search is the best of draws from the prior.
        ess_target: effective sample size of the weights, as a share of the candidates of a round; it is at least 2.
        tilt: the largest w, the probability with which a code is a parent's; each candidate has its own, uniform from
            0 to this. At 0 every round draws from the prior alone.
        support: lambda, the cost of each bit of -log2 p(z), in cm or degrees: improbable candidates must be nearer to
            the goal.
        keep: how many of the best candidates to return.
        seed: seed of all draws.

    Raises:
        NarrowsError: if a setting is out of range.
    """

    decodings: int = 4000
    rounds: int = 16
    ess_target: float = 0.05
    tilt: float = 1.0
    support: float = 0.2
    keep: int = 6
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"rounds": 1, "keep": 1, "decodings": 2 * self.rounds, "support": 0, "tilt": 0}
        for name, value in least.items():
            if not getattr(self, name) >= value:
                raise NarrowsError(f"{name} is {getattr(self, name)}: it must be at least {value}")
        if not self.tilt <= 1:
            raise NarrowsError(f"tilt is {self.tilt}: it must be at most 1")
        if not 0 < self.ess_target < 1:
            raise NarrowsError(f"ess_target is {self.ess_target}: it must be between 0 and 1")

    @property
    def size(self) -> int:
        """The number of candidates of a round."""
        return self.decodings // self.rounds


class Found(NamedTuple):
    """A candidate with its cost."""

    candidate: Candidates
    """The candidate, a batch of one."""
    cost: float
    """The cost of its misses, without that of its bits."""
    misses: dict[str, float]
    """By how much it misses each goal, in the goal's own unit."""
    bits: float
    """-log2 p(z); of latents, minus the logarithm of a density, which may be negative."""


class Round(NamedTuple):
    """The state after a round."""

    decodings: int
    """Candidates decoded so far."""
    best: float
    """The least total cost so far: misses and bits."""
    temperature: float
    """The temperature of the weights."""
    ess: float
    """Their effective sample size, in candidates."""


class Outcome(NamedTuple):
    """The outcome of a search."""

    best: list[Found]
    """The best candidates, the best first."""
    rounds: list[Round]

    @property
    def decodings(self) -> int:
        """Candidates decoded."""
        return self.rounds[-1].decodings


def search(proposals: Proposals, costs_of: CostsOf, settings: SearchSettings, progress: Progress = hidden) -> Outcome:
    """Search for candidates of least cost. No candidate is decoded twice, so fewer may be decoded than allowed.

    Args:
        proposals: draws the candidates.
        costs_of: decodes candidates and returns their costs.
        settings: how to search.
        progress: shows the progress.

    Raises:
        NarrowsError: if no candidate has a finite cost.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    pool, rounds, seen = _Pool(settings), list[Round](), set[bytes]()
    with progress("search", settings.decodings, "candidates") as meter:
        for number in range(settings.rounds):
            drawn = pool.propose(proposals, generator) if number else proposals.draw(settings.size, generator)
            fresh = _unseen(drawn, seen)
            if len(fresh.z):
                pool.add(fresh, costs_of(fresh))
            weights = weights_of(pool.total, max(2.0, settings.ess_target * settings.size))
            pool.weights = weights.weights
            rounds.append(Round(len(seen), float(pool.total[0]), weights.temperature, weights.ess))
            meter.advance(settings.size)
    return Outcome(pool.best(), rounds)


class Weights(NamedTuple):
    """Weights of N candidates, proportional to exp(-cost / temperature)."""

    weights: Tensor
    """They sum to one, float64 [N]."""
    temperature: float
    ess: float
    """1 / sum of their squares: how many equal weights are as varied."""


def weights_of(costs: Tensor, effective: float) -> Weights:
    """Return weights whose effective sample size is `effective`, by the rule of `narrows.estimators.DAPS`.

    If there are not as many candidates, the weights are nearly equal. A cost that is not finite has weight 0.

    Args:
        costs: [N].
        effective: the effective sample size, at least 2.
    """
    count = len(costs)
    if count == 1:
        return Weights(torch.ones(1, dtype=torch.float64), 0.0, 1.0)
    target = min(effective / count, 0.999)
    none = torch.zeros(count, 1, dtype=torch.float64)
    evidence = Evidence(-costs.double().unsqueeze(1), none, none, none[0], none[0])
    weights, eta, ess = DAPS(beta=0.0, ess_target=target, samples=count).target(evidence)
    return Weights(weights.squeeze(1), float(eta), float(ess) * count)


class _Pool:
    """The best candidates so far, the best first, and the weights by which they become parents.

    Attributes:
        candidates: the candidates, as many as a round draws or as are returned.
        total: cost of their misses and bits, float64 [N].
        weights: float64 [N].
    """

    candidates: Candidates
    total: Tensor
    weights: Tensor

    def __init__(self, settings: SearchSettings) -> None:
        self.settings = settings
        self.costs = Costs(np.zeros(0), {})

    def propose(self, proposals: Proposals, generator: torch.Generator) -> Candidates:
        """Draw the candidates of a round, tilted towards parents."""
        size = self.settings.size
        which = torch.multinomial(self.weights, size, replacement=True, generator=generator)
        tilt = torch.rand(size, generator=generator) * self.settings.tilt
        return proposals.draw(size, generator, self.candidates.at(which), tilt)

    def add(self, candidates: Candidates, costs: Costs) -> None:
        """Add candidates, and leave out the worst.

        Raises:
            NarrowsError: if none has a finite cost.
        """
        if len(self.costs.total):
            candidates = self.candidates.joined(candidates)
            misses = {name: np.append(self.costs.misses[name], part) for name, part in costs.misses.items()}
            costs = Costs(np.append(self.costs.total, costs.total), misses)
        bits = -candidates.log_prior / math.log(2)
        total = torch.from_numpy(costs.total).double() + self.settings.support * bits
        total = total.nan_to_num(math.inf, math.inf, math.inf)
        order = total.argsort(stable=True)[: max(self.settings.size, self.settings.keep)]
        if not total[order[0]].isfinite():
            raise NarrowsError(
                "no candidate has a finite cost: the decoder gives NaN or infinite values; train it again"
            )
        self.candidates, self.total = candidates.at(order), total[order]
        which = order.numpy()
        self.costs = Costs(costs.total[which], {name: part[which] for name, part in costs.misses.items()})

    def best(self) -> list[Found]:
        """Return the best candidates."""
        return [
            Found(
                self.candidates.at(torch.tensor([index])),
                float(self.costs.total[index]),
                {name: float(part[index]) for name, part in self.costs.misses.items()},
                float(-self.candidates.log_prior[index]) / math.log(2),
            )
            for index in range(min(self.settings.keep, len(self.total)))
        ]


def _unseen(candidates: Candidates, seen: set[bytes]) -> Candidates:
    """Return the candidates, without repetitions, that are not among those `seen`, and add them."""
    labels = torch.zeros(len(candidates.z), 1) if candidates.labels is None else candidates.labels.unsqueeze(1)
    rows = np.concatenate([candidates.z.flatten(1).numpy(), labels.numpy()], 1)
    fresh = []
    for index, row in enumerate(rows):
        key = row.tobytes()
        if key not in seen:
            seen.add(key)
            fresh.append(index)
    return candidates.at(torch.tensor(fresh, dtype=torch.long))
