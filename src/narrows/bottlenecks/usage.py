"""Code usage: counts of the codes, their perplexity exp(entropy), and the share of codes that occur."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["count", "perplexity", "usage_statistics"]


def count(codes: Tensor, size: int) -> Tensor:
    """Count how often this process's tokens have each code.

    Args:
        codes: [n, M], in [0, K); K marks a token that does not count.
        size: K.

    Returns:
        [M, K], float32.
    """
    ones = torch.ones((), device=codes.device).expand(codes.T.shape)
    counts = torch.zeros(codes.shape[1], size + 1, device=codes.device).scatter_add_(1, codes.T, ones)
    return counts[:, :size].contiguous()  # contiguous, as sums over processes require


def perplexity(counts: Tensor) -> Tensor:
    """Return exp(entropy) of counts [M, K], the equivalent number of equally used codes, from 1 to K: [M]."""
    shares = counts / counts.sum(1, keepdim=True).clamp_min(1)
    return torch.special.entr(shares).sum(1).exp()


def usage_statistics(counts: Tensor) -> dict[str, Tensor]:
    """Return "perplexity" and "usage" (share of codes in use) of counts [M, K], averaged over the codebooks."""
    return {"perplexity": perplexity(counts).mean(), "usage": (counts > 0).to(counts.dtype).mean()}
