"""Sums and draws over the global batch, the concatenated batches of all processes in the order of their ranks.

Without a process group the global batch is this process's own. With one, all processes must make the same calls.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

__all__ = ["global_rows", "global_sum"]

_LAST = 2**32 - 1
_NONE = 2**32
"""The key of a row that does not count, beyond that of any that does."""


def global_sum(tensor: Tensor) -> Tensor:
    """Sum a contiguous `tensor` over all processes, in place, and return it."""
    if _grouped():
        dist.all_reduce(tensor)
    return tensor


def global_rows(rows: Tensor, counted: Tensor, count: int, seed: Tensor) -> tuple[Tensor, Tensor]:
    """Draw `count` distinct rows of those that count in the global batch: the same on every process.

    A row's number among those that count decides its place in the random order, so that the others, wherever they are,
    and the shares of the processes change nothing. No shape depends on how many count: no device is waited for.

    Args:
        rows: this process's rows, [n, dim]; n may differ between processes, and be 0.
        counted: which of them count, bool [n].
        count: how many rows to draw.
        seed: what the draw depends on, an integer; the same on every process.

    Returns:
        The drawn rows in random order, [`count`, dim], and which of these there are, bool [`count`]: where the global
        batch has fewer that count, all of them come first, and zeros after them.
    """
    ranks, rank = (dist.get_world_size(), dist.get_rank()) if _grouped() else (1, 0)
    if not len(rows):
        rows, counted = rows.new_zeros(1, rows.shape[1]), counted.new_zeros(1)
    own = counted.sum()
    sizes = torch.zeros(ranks, dtype=torch.long, device=rows.device)
    sizes[rank] = own
    numbers = counted.cumsum(0) - 1 + global_sum(sizes).cumsum(0)[rank] - own
    keys = torch.where(counted, _scrambled(numbers ^ _scrambled(seed)), _NONE)
    least, places = keys.topk(min(count, len(keys)), largest=False)
    every = torch.zeros(ranks, count, dtype=torch.long, device=rows.device)
    every[rank] = F.pad(least, (0, count - len(least)), value=_NONE)
    winners, among = global_sum(every).flatten().topk(count, largest=False)
    found = winners < _NONE
    mine = (found & (among // count == rank)).unsqueeze(1)
    drawn = rows[F.pad(places, (0, count - len(places)))[among % count]]
    return global_sum(torch.where(mine, drawn, 0)), found


def _scrambled(numbers: Tensor) -> Tensor:
    """Integers from 0 to 2^32 - 1 that look random, of such integers, int64; no two have the same."""
    numbers = numbers & _LAST
    for _ in range(2):
        numbers = ((numbers >> 16) ^ numbers) * 0x45D9F3B & _LAST
    return (numbers >> 16) ^ numbers


def _grouped() -> bool:
    return dist.is_available() and dist.is_initialized()
