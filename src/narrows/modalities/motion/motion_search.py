"""Search over the motions that a model decodes, and its comparison with random draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from narrows.modalities.motion.goals import Costs, Goals, MotionBatch
from narrows.modalities.motion.proposals import Candidates, proposals_of
from narrows.modalities.motion.search import CostsOf, Found, SearchSettings, search
from narrows.modalities.motion.standardised import Standardised
from narrows.models import Autoencoder
from narrows.progress import Progress, hidden
from narrows.sampling import Sampling

__all__ = ["AT_ONCE", "Compared", "compare_with_random", "decoded", "decoded_costs"]

AT_ONCE = 256
"""Candidates decoded together."""


def decoded(model: Autoencoder, candidates: Candidates) -> Tensor:
    """Return the motions of candidates, [N, C, T]."""
    labels = candidates.labels if model.conditional else None
    parts = [slice(at, at + AT_ONCE) for at in range(0, len(candidates.z), AT_ONCE)]
    return torch.cat([model.decode(candidates.z[part], None if labels is None else labels[part]) for part in parts])


def decoded_costs(model: Autoencoder, goals: Goals) -> CostsOf:
    """Return the function from candidates to the costs of their motions."""
    scale = Standardised.of(model.spec.details)

    def costs_of(candidates: Candidates) -> Costs:
        x = decoded(model, candidates).double().transpose(1, 2).numpy()
        return goals.costs(MotionBatch(x * scale.std + scale.mean, scale.format))

    return costs_of


class Compared(NamedTuple):
    """The outcome of a search, and that of as many draws from the prior."""

    search: Found
    random: Found
    decodings: int


def compare_with_random(
    model: Autoencoder,
    goals: Sequence[Goals],
    settings: SearchSettings,
    sampling: Sampling | None = None,
    progress: Progress = hidden,
) -> list[Compared]:
    """Return for each of several goals the best of a search and the best of as many random draws from the prior.

    The best of the draws is that of least cost, whatever its bits. Each goal has a seed of its own.

    Args:
        model: the model.
        goals: the goals.
        settings: how to search; its seed is that of the first goal.
        sampling: temperature, top-k and top-p of a learned prior, for both; None for the defaults.
        progress: shows the progress.

    Raises:
        NarrowsError: if the model is discrete and has no prior; see `proposals_of`.
    """
    proposals, found = proposals_of(model, sampling or Sampling()), []
    with progress("compare", len(goals), "goals") as meter:
        for number, goal in enumerate(goals):
            own, costs_of = replace(settings, seed=settings.seed + number), decoded_costs(model, goal)
            ours = search(proposals, costs_of, own)
            drawn = search(proposals, costs_of, replace(own, rounds=1, decodings=ours.decodings, support=0.0))
            found.append(Compared(ours.best[0], drawn.best[0], ours.decodings))
            meter.advance()
    return found
