"""Sums and draws over the global batch, the concatenated batches of all processes in the order of their ranks.

Without a process group the global batch is this process's own. With one, all processes must make the same calls.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["global_rows", "global_sum"]


def global_sum(tensor: Tensor) -> Tensor:
    """Sum a contiguous `tensor` over all processes, in place, and return it."""
    if _grouped():
        dist.all_reduce(tensor)
    return tensor


def global_rows(rows: Tensor, count: int, seed: int) -> Tensor:
    """Draw `count` distinct rows of the global batch, or all if it has fewer; every process gets the same rows.

    Args:
        rows: this process's rows, [n, dim]; n may differ between processes, and be 0.
        count: number of rows to draw.
        seed: seed of the draw, the same on every process; the draw also depends on the size of the global batch.

    Returns:
        The drawn rows in random order, [min(`count`, rows in the global batch), dim].
    """
    ranks, rank = (dist.get_world_size(), dist.get_rank()) if _grouped() else (1, 0)
    sizes = torch.zeros(ranks, dtype=torch.long, device=rows.device)
    sizes[rank] = len(rows)
    ends = global_sum(sizes).cumsum(0).tolist()
    drawn = torch.randperm(ends[-1], generator=torch.Generator().manual_seed(seed))[:count].to(rows.device)
    own = drawn - (ends[rank] - len(rows))
    mine = (own >= 0) & (own < len(rows))
    found = rows.new_zeros(len(drawn), rows.shape[1])
    found[mine] = rows[own[mine]]
    return global_sum(found)


def _grouped() -> bool:
    return dist.is_available() and dist.is_initialized()
