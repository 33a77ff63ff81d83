"""How codes are used: how often each, the perplexity exp(entropy) of that, and the share that occurs at all."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["count", "perplexity", "usage_statistics"]


def count(codes: Tensor, size: int) -> Tensor:
    """Count the tokens of this process by their codes.

    Args:
        codes: [n, M], in [0, K); K stands for a token that does not count.
        size: K.

    Returns:
        [M, K], float32.
    """
    ones = torch.ones((), device=codes.device).expand(codes.T.shape)
    counts = torch.zeros(codes.shape[1], size + 1, device=codes.device).scatter_add_(1, codes.T, ones)
    return counts[:, :size].contiguous()  # as sums over processes need it


def perplexity(counts: Tensor) -> Tensor:
    """The number of equally used codes worth as much, exp(entropy) from 1 to K, of counts [M, K]: [M]."""
    shares = counts / counts.sum(1, keepdim=True).clamp_min(1)
    return torch.special.entr(shares).sum(1).exp()


def usage_statistics(counts: Tensor) -> dict[str, Tensor]:
    """The "perplexity" and "usage", the share of codes in use, of counts [M, K], averaged over the codebooks."""
    return {"perplexity": perplexity(counts).mean(), "usage": (counts > 0).to(counts.dtype).mean()}
