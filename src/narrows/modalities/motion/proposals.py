"""Candidates of a search: codes from a learned prior or latents from the fixed one, alone or tilted towards parents.

Each code of a candidate is its parent's with probability w, and otherwise drawn from p(z_t | z_<t). Over parents drawn
by their weights, step t is a mixture of the prior and of the weighted empirical distribution of the codes at t. With a
standard normal prior, z = w parent + sqrt(1 - w^2) noise: parents from the prior give candidates from the prior.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from narrows.bottlenecks import Gaussian
from narrows.errors import NarrowsError
from narrows.models import Autoencoder
from narrows.priors import Prior
from narrows.sampling import Sampling, draw, require_finite

__all__ = ["Candidates", "CodeProposals", "LatentProposals", "Proposals", "proposals_of"]


class Candidates(NamedTuple):
    """N candidates."""

    z: Tensor
    """Codes, int64 [N, *grid] or [N, *grid, M]; or latents, float [N, C, *grid]."""
    labels: Tensor | None
    """Their classes, int64 [N]; None if there are none."""
    log_prior: Tensor
    """log p(z), given the class if the prior depends on it, in nats, float64 [N]."""

    def at(self, which: Tensor) -> Candidates:
        """Return some of the candidates, by index or mask."""
        labels = None if self.labels is None else self.labels[which]
        return Candidates(self.z[which], labels, self.log_prior[which])

    def joined(self, other: Candidates) -> Candidates:
        """Return these candidates followed by others of the same kind."""
        labels = None if self.labels is None or other.labels is None else torch.cat([self.labels, other.labels])
        return Candidates(torch.cat([self.z, other.z]), labels, torch.cat([self.log_prior, other.log_prior]))


class Proposals(ABC):
    """Draws candidates."""

    @abstractmethod
    def draw(
        self, n: int, generator: torch.Generator, parents: Candidates | None = None, tilt: Tensor | None = None
    ) -> Candidates:
        """Draw n candidates from the prior, or tilted towards `parents`, n candidates, by `tilt`, w of each, [n]."""


class CodeProposals(Proposals):
    """Codes from a learned prior.

    Args:
        prior: the prior.
        sampling: temperature, top-k and top-p of its steps. Codes that they leave out, or whose probability is zero,
            are never drawn; a parent's code that is left out gives way to a draw.
        classes: K, the number of classes of which each candidate gets one; 0 for none.
        label: the class of all candidates; None draws classes with equal probability.
    """

    def __init__(self, prior: Prior, sampling: Sampling, classes: int = 0, label: int | None = None) -> None:
        require_finite(prior, "prior")
        self.prior, self.sampling, self.classes, self.label = prior, sampling, classes, label

    @torch.inference_mode()
    def draw(
        self, n: int, generator: torch.Generator, parents: Candidates | None = None, tilt: Tensor | None = None
    ) -> Candidates:
        """Draw n candidates; see `Proposals.draw`."""
        labels = parents.labels if parents is not None else _labels(n, self.classes, self.label, generator)
        uniforms, keep = torch.rand(2, self.prior.length, n, generator=generator)
        state = self.prior.begin(n, labels if self.prior.classes else None)
        kept = None if parents is None or tilt is None else (parents.z.flatten(1).t(), keep < tilt)
        codes: list[Tensor] = []
        log_prior = torch.zeros(n, dtype=torch.float64)
        for step, uniform in enumerate(uniforms):
            logits = self.prior.step(state, codes[-1] if codes else None)
            allowed = self.sampling.filter(logits)
            code = draw(allowed, uniform.unsqueeze(1))
            if kept is not None:
                inherited = kept[0][step]
                possible = allowed.gather(1, inherited.unsqueeze(1)).squeeze(1) > -math.inf
                code = torch.where(kept[1][step] & possible, inherited, code)
            log_prior += logits.double().log_softmax(1).gather(1, code.unsqueeze(1)).squeeze(1)
            codes.append(code)
        return Candidates(torch.stack(codes, 1).view(n, *self.prior.code_shape), labels, log_prior)


class LatentProposals(Proposals):
    """Latents from the standard normal prior.

    Args:
        shape: (C, *grid) of the latents of one candidate.
        classes: K, the number of classes of which each candidate gets one; 0 for none.
        label: the class of all candidates; None draws classes with equal probability.
    """

    def __init__(self, shape: tuple[int, ...], classes: int = 0, label: int | None = None) -> None:
        self.shape, self.classes, self.label = shape, classes, label

    def draw(
        self, n: int, generator: torch.Generator, parents: Candidates | None = None, tilt: Tensor | None = None
    ) -> Candidates:
        """Draw n candidates; see `Proposals.draw`."""
        z = torch.randn(n, *self.shape, generator=generator)
        labels = _labels(n, self.classes, self.label, generator)
        if parents is not None and tilt is not None:
            share = tilt.view(-1, *[1] * len(self.shape))
            z, labels = share * parents.z + (1 - share.square()).sqrt() * z, parents.labels
        squares = z.double().square().flatten(1)
        return Candidates(z, labels, -(squares + math.log(2 * math.pi)).sum(1) / 2)


def _labels(n: int, classes: int, label: int | None, generator: torch.Generator) -> Tensor | None:
    if not classes:
        return None
    drawn = torch.randint(classes, (n,), generator=generator)
    return drawn if label is None else torch.full((n,), label)


def proposals_of(model: Autoencoder, sampling: Sampling, label: int | None = None) -> Proposals:
    """Return the proposals of a model, whose prior must be learned if it is discrete.

    Args:
        model: the model.
        sampling: temperature, top-k and top-p of a learned prior.
        label: the class of all candidates; None draws classes with equal probability.

    Raises:
        NarrowsError: if the model is discrete and has no prior, or has other latents than codes or Gaussian ones.
    """
    classes = len(model.classes) if model.informed else 0
    if model.prior is not None:
        return CodeProposals(model.prior, sampling, classes, label)
    if not isinstance(model.bottleneck, Gaussian):
        way_out = ": fit a prior with `narrows prior RUN`" if model.discrete else ""
        raise NarrowsError(f"a search draws codes from a learned prior, or Gaussian latents{way_out}")
    return LatentProposals((model.bottleneck.channels, *model.grid), classes, label)
