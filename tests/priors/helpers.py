"""Codes, conditions and steps that the tests of all priors share."""

import torch
from torch import Tensor

from narrows.priors import Condition, Prior


def codes_of(prior: Prior, batch: int) -> Tensor:
    shape = (batch, *prior.code_shape)
    return torch.randint(prior.codebook_size, shape, generator=torch.Generator().manual_seed(1))


def condition_of(prior: Prior, batch: int, by_frame: bool = False, seed: int = 2) -> Condition | None:
    """A random condition of all that a prior is conditioned on; features of each position, or of each frame alone."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(prior.classes, (batch,), generator=generator) if prior.classes else None
    grid = (prior.grid[0], *[1] * (len(prior.grid) - 1)) if by_frame else prior.grid
    features = torch.randn(batch, prior.channels, *grid, generator=generator) if prior.channels else None
    return None if labels is None and features is None else Condition(labels, features)


def stepped(
    prior: Prior, codes: Tensor, condition: Condition | Tensor | None = None, past: Tensor | None = None
) -> Tensor:
    """The logits of given codes by incremental steps, from the first code that is not past, [B, N - n, K]."""
    state = prior.begin(len(codes), condition, past)
    first = 0 if past is None else past.shape[1]
    inputs = [None, *codes.flatten(1)[:, first:].unbind(1)[:-1]]
    return torch.stack([prior.step(state, code) for code in inputs], 1)


def feature_influence(prior: Prior) -> Tensor:
    """Whether features of a position influence the logits of each code, bool [positions, positions, M]."""
    positions = prior.length // prior.codebooks
    _, features = Condition.of(condition_of(prior, 1))
    assert features is not None
    changed = features.reshape(1, -1, positions).repeat(positions + 1, 1, 1)
    n = torch.arange(positions)
    changed[n, :, n] += 1  # example n has other features at position n; the last example is unchanged
    codes = codes_of(prior, 1).expand(positions + 1, *prior.code_shape)
    with torch.no_grad():
        logits = prior.logits(codes, Condition(features=changed.view(positions + 1, -1, *prior.grid)))
    influence = (logits[:-1] - logits[-1]).abs().amax(-1) > 1e-12
    return influence.view(positions, positions, prior.codebooks)
