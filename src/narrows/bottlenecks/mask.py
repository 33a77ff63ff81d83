"""Masks of the positions that count: masked values affect no rate, loss, codebook or gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from narrows.errors import NarrowsError

__all__ = ["count_positions", "hide"]


def hide(features: Tensor, mask: Tensor | None) -> Tensor:
    """Return the features with zeros at the positions that do not count, so that these get no gradient either.

    Args:
        features: [B, C, *grid].
        mask: True where a position counts, bool [B, *grid]; None if all do, which returns the features unchanged.

    Raises:
            NarrowsError: if the mask is not boolean or has another shape.
    """
    if mask is None:
        return features
    wanted = (features.shape[0], *features.shape[2:])
    if mask.dtype != torch.bool or mask.shape != wanted:
        raise NarrowsError(
            f"the mask must be bool {list(wanted)}, one value per position of the features, not {mask.dtype} "
            f"{list(mask.shape)}"
        )
    return features.masked_fill(~mask.unsqueeze(1), 0)


def count_positions(mask: Tensor) -> Tensor:
    """Return the number of positions that count in each example, int64 [B], from a mask [B, *grid]."""
    return mask.reshape(len(mask), mask.shape[1:].numel()).sum(1)
