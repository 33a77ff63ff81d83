"""Codes that go on: a prior's window moves over them and draws those that follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from narrows.errors import NarrowsError
from narrows.priors.condition import Condition
from narrows.priors.prior import Prior
from narrows.priors.sampler import sample
from narrows.sampling import Sampling

__all__ = ["continue_codes"]


def continue_codes(
    prior: Prior,
    codes: Tensor,
    count: int,
    condition: Condition | Tensor | None = None,
    sampling: Sampling | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Tensor:
    """Return codes followed by `count` positions of the first axis drawn from the prior.

    The prior's window moves over them in steps of at most half its length, so that at least the other half is known.

    Args:
        prior: the prior, with a first axis (T, ...) of more than one position.
        codes: the codes to continue, [B, N, ...] or, with M > 1 codes per position, [B, N, ..., M].
        count: number of new positions of the first axis.
        condition: the condition of the examples, a tensor standing for labels alone; features are those of all given
            and new positions, [B, C, N + `count`, ...], in which B and the axes after the first may be 1 to broadcast.
        sampling: how codes are drawn; None for the defaults.
        progress: called with the number of positions drawn.

    Returns:
        int64 [B, N + `count`, ...] or [B, N + `count`, ..., M].

    Raises:
        NarrowsError: if the codes or the condition do not fit the prior, or it has no windows to move.
    """
    window, size = prior.grid[0], prod(prior.code_shape[1:])
    if window < 2:
        raise NarrowsError(
            f"the prior models codes on the grid {list(prior.grid)}, and only one over at least 2 positions of the "
            "first axis continues others: fit one with `narrows prior RUN --window=16`"
        )
    labels, features = Condition.of(condition)
    end = codes.shape[1] + count
    if features is not None and (features.ndim != 2 + len(prior.grid) or features.shape[2] != end):
        raise NarrowsError(
            f"features must be those of all {end} positions, [B, {prior.channels}, {end}, ...], given and new ones, "
            f"got {list(features.shape)}"
        )
    # One generator for all windows: with the seed itself, each would be drawn with the same random numbers.
    sampling = sampling or Sampling()
    sampling = replace(sampling, seed=sampling.generator)
    while (missing := end - codes.shape[1]) > 0:
        step = min(missing, window // 2)
        past = codes[:, -(window - step) :]
        start = codes.shape[1] - past.shape[1]

        def advance(done: int, _: int, before: int = count - missing, known: int = past.shape[1]) -> None:
            progress(before + done // size - known)

        given = Condition(labels, None if features is None else _window(features, start, window))
        positions = min(window, past.shape[1] + missing)
        drawn = sample(prior, len(codes), given, sampling, past.flatten(1), positions, advance)
        codes = torch.cat([codes, drawn[:, past.shape[1] :].to(codes.device)], 1)
    return codes


def _window(features: Tensor, start: int, length: int) -> Tensor:
    """Return a window of features [B, C, N, ...], with zeros after the last, where no codes are drawn."""
    found = features[:, :, start : start + length]
    return F.pad(found, [0, 0] * (features.ndim - 3) + [0, length - found.shape[2]])
