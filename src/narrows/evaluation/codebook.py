"""How a codebook is used: counts, perplexity exp(entropy), and the share of its codes that occur."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["code_counts", "perplexity", "share_in_use"]


def code_counts(codes: Tensor, codebooks: int, codebook_size: int) -> Tensor:
    """How often each code occurs in codes [B, *grid] or [B, *grid, M]: int64 [M, K]."""
    flat = codes.reshape(-1, codebooks) + codebook_size * torch.arange(codebooks, device=codes.device)
    return torch.bincount(flat.flatten(), minlength=codebooks * codebook_size).view(codebooks, codebook_size)


def perplexity(counts: Tensor) -> float:
    """exp(entropy) of the codes' frequencies, from 1 to K, averaged over the codebooks of counts [M, K]."""
    frequencies = counts.double() / counts.sum(1, keepdim=True)
    return torch.special.entr(frequencies).sum(1).exp().mean().item()


def share_in_use(counts: Tensor) -> float:
    """The share of all codes of counts [M, K] that occur at least once."""
    return (counts > 0).double().mean().item()
