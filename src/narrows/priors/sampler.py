"""Sampling from a learned prior: each code costs one incremental step and one uniform random number."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor

from narrows.errors import NarrowsError
from narrows.priors.condition import Condition
from narrows.priors.prior import Prior
from narrows.sampling import Sampling, draw, require_finite

__all__ = ["sample"]

_DEFAULT = Sampling()


def sample(
    prior: Prior,
    batch: int,
    condition: Condition | Tensor | None = None,
    sampling: Sampling = _DEFAULT,
    past: Tensor | None = None,
    positions: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Draw codes from p(codes | condition, past), one incremental step a code, in full precision even under autocast.

    All random numbers are drawn at the start, one uniform for each code of the grid, those of the past included: first
    those of the first example in the order of its codes, then those of the second, and so on. An example is thus the
    same however many follow it in the batch, and continuing its own first codes with the same seed gives it again, up
    to rounding.

    Args:
        prior: the prior to sample from.
        batch: B, the number of examples.
        condition: the condition of the examples; a tensor stands for labels alone.
        sampling: temperature, top-k, top-p and seed.
        past: the first n codes of each example in the prior's fixed order, int64 [B, n]; None draws all codes.
        positions: T, the number of positions of the first axis at which to stop; None for whole examples.
        progress: called after each code drawn with the number of codes done, the past included, and their total.

    Returns:
        Examples, the past included: codes [B, *grid], or [B, *grid, M] with M > 1 codes per position; the first axis of
        the grid is T if `positions` is given.

    Raises:
        NarrowsError: if the condition, the past or `positions` does not fit the prior, or its weights are not finite.
    """
    require_finite(prior, "prior")
    past = prior.check_past(past, batch)
    shape = prior.code_shape if positions is None else (positions, *prior.code_shape[1:])
    if not past.shape[1] <= (total := prod(shape)) <= prior.length:
        raise NarrowsError(
            f"{total} codes at {positions} positions were asked for: there must be at least those of the past, "
            f"{past.shape[1]}, and at most the prior's {prior.length}"
        )
    generator = sampling.generator
    source = "cpu" if generator is None else generator.device
    codes = list(past.unbind(1))
    previous: Tensor | None = None
    with torch.inference_mode(), torch.autocast(past.device.type, enabled=False):
        uniforms = torch.rand(batch, prior.length, generator=generator, device=source).to(past.device)
        state = prior.begin(batch, condition, past)
        for uniform in uniforms.t()[len(codes) : total].contiguous().unsqueeze(-1):
            previous = draw(sampling.filter(prior.step(state, previous)), uniform)
            codes.append(previous)
            if progress is not None:
                progress(len(codes), total)
    return torch.stack(codes, 1).view(batch, *shape)
