"""Two models of piano rolls that only count: what any model of music has to beat."""

from __future__ import annotations

import numpy as np

from narrows.modalities.music.rolls import Rolls

__all__ = ["baselines"]

HALF = 0.5
"""Added to every count (Krichevsky and Trofimov 1981), so that no probability is 0."""


def baselines(train: Rolls, examples: Rolls) -> dict[str, float]:
    """Return the mean negative log-likelihood of the values of `examples`, in bits, under two models of `train`.

    `unigram_bits_per_dim` knows how often each channel is on; `order1_bits_per_dim` also knows whether it was on one
    step before. The first step of a stretch has no step before it, so the unigram describes it there too.
    """
    on = train.values > 0
    share = (on.sum(0) + HALF) / (len(on) + 2 * HALF)
    before, after = _pairs(train)
    # Of the steps where a channel was off, and of those where it was on: the share where it is on at the next.
    following = [((after & given).sum(0) + HALF) / (given.sum(0) + 2 * HALF) for given in (~before, before)]
    bits = {"unigram": 0.0, "order1": 0.0}
    for index in range(len(examples)):
        roll = examples.stored(index) > 0
        unigram = _bits(roll, share)
        later = np.where(roll[:-1], following[1], following[0])
        bits["unigram"] += float(unigram.sum())
        bits["order1"] += float(unigram[:1].sum() + _bits(roll[1:], later).sum())
    return {f"{name}_bits_per_dim": total / max(1, examples.values.size) for name, total in bits.items()}


def _pairs(train: Rolls) -> tuple[np.ndarray, np.ndarray]:
    """Return all steps that have a next one in their stretch, and those next ones, bool [M, C] each."""
    on = train.values > 0
    has_next = np.ones(len(on), bool)
    has_next[train.offsets[1:] - 1] = False
    places = np.flatnonzero(has_next)
    return on[places], on[places + 1]


def _bits(on: np.ndarray, probability: np.ndarray) -> np.ndarray:
    return -np.log2(np.where(on, probability, 1 - probability))
