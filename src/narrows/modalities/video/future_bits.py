"""Bits per code of held-out futures under their own actions, under those of other frames, and under unknown ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from narrows.errors import NarrowsError
from narrows.priors import Condition, Prior

__all__ = ["FUTURE_BITS", "Coded", "future_bits", "window_starts"]

FUTURE_BITS = ("future_bits_per_code", "future_bits_per_code_shuffled", "future_bits_per_code_unknown")
"""Names of the bits of a code under the frames' own actions, those of other frames, and unknown ones."""
AT_ONCE = 4
"""Windows that are measured together."""

Coded = tuple[Tensor, Tensor]
"""The codes of a clip, [T, h, w] or [T, h, w, M], and the features of the action that led to each frame, [T, C]."""


def window_starts(prior: Prior, lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Return the (clip, first frame) of windows of the prior whose later halves follow each other."""
    window = prior.grid[0]
    step = window - window // 2
    return [(clip, at) for clip, length in enumerate(lengths) for at in range(0, length - window + 1, step)]


@torch.no_grad()
def future_bits(
    prior: Prior, clips: Sequence[Coded], seed: int = 0, advance: Callable[[int], None] = lambda n: None
) -> dict[str, float]:
    """Return the mean of -log2 p(code | codes before, actions) over the codes of future frames, in bits.

    Every window of the prior over a clip counts the frames of its later half, given those of its earlier half.

    Args:
        prior: the prior, in evaluation mode.
        clips: the clips.
        seed: the seed of which frames exchange their actions.
        advance: called with the number of windows measured.

    Returns:
        `future_bits_per_code`; and for a prior with features, the same with the actions of all future frames exchanged
        at random, `..._shuffled`, and with unknown actions in all frames, `..._unknown`.

    Raises:
        NarrowsError: if no clip is as long as the prior's window.
    """
    window, given = prior.grid[0], prior.grid[0] // 2
    starts = window_starts(prior, [len(codes) for codes, _ in clips])
    if not starts:
        raise NarrowsError(f"no clip has the {window} frames of the prior's window: give longer ones")
    codes, features = (torch.stack([clips[clip][part][at : at + window] for clip, at in starts]) for part in range(2))
    versions = {FUTURE_BITS[0]: features}
    if prior.channels:
        shuffled = features.clone()
        future = features[:, given:].flatten(0, 1)
        order = torch.randperm(len(future), generator=torch.Generator().manual_seed(seed))
        shuffled[:, given:] = future[order].view_as(features[:, given:])
        versions |= dict(zip(FUTURE_BITS[1:], (shuffled, torch.zeros_like(features)), strict=True))
    nats = dict.fromkeys(versions, 0.0)
    device = next(prior.parameters()).device
    for at in range(0, len(codes), AT_ONCE):
        part = codes[at : at + AT_ONCE].to(device)
        for name, values in versions.items():
            own = values[at : at + AT_ONCE].mT[..., None, None] if prior.channels else None
            logits = prior.logits(part, Condition(features=own))[:, given:]
            nats[name] += F.cross_entropy(logits.flatten(0, -2), part[:, given:].flatten(), reduction="sum").item()
        advance(len(part))
    count = codes[:, given:].numel() * math.log(2)
    return {name: total / count for name, total in nats.items()}
