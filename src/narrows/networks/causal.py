"""Causal transformer that attends to a memory, over whole sequences or step by step.

A. Vaswani et al., "Attention Is All You Need" (2017), the decoder, with a norm before each sublayer. A step costs as
much as one position, because the keys and values of earlier positions are cached.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from narrows.errors import NarrowsError
from narrows.networks.transformer import check_heads

__all__ = [
    "CausalBlock",
    "CausalTransformer",
    "GrowingCache",
    "Memory",
    "StepLinear",
    "WrittenCache",
]

# Below this many queries, a CPU's fused kernel is slower than two products, which do not copy the keys.
_FEW_QUERIES = 8
# Up to this many rows, W x^T is faster than x W^T on several threads of a CPU (see `StepLinear`).
_FEW_ROWS = 64


class StepLinear(nn.Linear):
    """Linear map that is fast for few rows, as in one step of a few sequences, on several CPU threads.

    Reading the weights then dominates the time; W x^T splits them among the threads, x W^T does not.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map x [..., in] to [..., out]."""
        rows = x.numel() // self.in_features
        if rows > _FEW_ROWS or x.device.type != "cpu" or torch.get_num_threads() == 1:
            return super().forward(x)
        columns = torch.addmm(self.bias.unsqueeze(1), self.weight, x.reshape(rows, -1).T)
        return columns.T.reshape(*x.shape[:-1], self.out_features)


class Memory(NamedTuple):
    """Keys and values that a block attends to in addition to earlier positions."""

    keys_values: Tensor
    """[2, B, H, P, W / H]."""
    mask: Tensor | None = None
    """True for the vectors of the memory that count, bool [B, 1, 1, P]; None if all do."""

    def to(self, dtype: torch.dtype) -> Memory:
        """Return the memory with keys and values of the given type."""
        return self._replace(keys_values=self.keys_values.to(dtype))


def _keep(x: Tensor) -> Tensor:
    return x


class CausalBlock(nn.Module):
    """Residual block of causal self-attention, attention to the memory and a hidden layer, each after a norm.

    Args:
        width: W, features.
        heads: H; must divide `width`.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.cross_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.out = StepLinear(width, 3 * width), StepLinear(width, width)
        self.query, self.cross_out = StepLinear(width, width), StepLinear(width, width)
        self.keys_values = nn.Linear(width, 2 * width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), StepLinear(width, 4 * width), nn.GELU(), StepLinear(4 * width, width)
        )

    def read(self, memory: Tensor, mask: Tensor | None = None) -> Memory:
        """Return the keys and values of a memory [B, P, W]; its vectors count where the mask, bool [B, P], is True.

        If none of an example's vectors count, all are attended to, so that nothing is NaN.
        """
        if mask is not None:
            mask = (mask | ~mask.any(1, keepdim=True))[:, None, None]
        return Memory(self._by_head(self.keys_values(memory), 2), mask)

    def forward(
        self,
        x: Tensor,
        memory: Memory,
        attend: Callable[[Tensor], Tensor],
        drop: Callable[[Tensor], Tensor] = _keep,
    ) -> Tensor:
        """Map x [B, S, n, W], given the keys and values of the memory.

        `attend` maps the queries, keys and values [3, B * S, H, n, W / H] to the attention output. `drop` is applied to
        each term before it is added to x.
        """
        found = attend(self._by_head(self.project(self.norm(x)).flatten(0, 1), 3))
        x = x + drop(self.out(found.transpose(1, 2).reshape(x.shape)))
        (queries,) = self._by_head(self.query(self.cross_norm(x)).flatten(1, 2), 1)
        keys_values, mask = memory.to(queries.dtype)
        keys, values = keys_values
        x = x + drop(self.cross_out(attention(queries, keys, values, mask).transpose(1, 2).reshape(x.shape)))
        return x + drop(self.mlp(x))

    def _by_head(self, projected: Tensor, parts: int) -> Tensor:
        """Reshape [R, n, parts * W] to [parts, R, H, n, W / H]."""
        return projected.unflatten(2, (parts, self.heads, -1)).permute(2, 0, 3, 1, 4)


class CausalTransformer(nn.Module):
    """Blocks and a final norm for S sequences of each of B examples; the sequences of an example share its memory.

    Args:
        width: W, features.
        layers: number of blocks.
        heads: attention heads per block; must divide `width`.
        dropout: dropout probability of the terms that sublayers add in training; not applied in steps.

    Raises:
        NarrowsError: if `layers` is below 1, `heads` does not divide `width`, or `dropout` is not in [0, 1).
    """

    def __init__(self, width: int, layers: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if layers < 1:
            raise NarrowsError(f"layers must be at least 1, not {layers}")
        check_heads(width, heads)
        if not 0 <= dropout < 1:
            raise NarrowsError(f"dropout must be at least 0 and below 1, not {dropout}")
        self.dropout = nn.Dropout(dropout)
        self.blocks = cast(Sequence[CausalBlock], nn.ModuleList(CausalBlock(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)

    def read(self, memory: Tensor, mask: Tensor | None = None) -> list[Memory]:
        """Return each block's keys and values of a memory [B, P, W]; vectors count where the mask [B, P] is True."""
        return [block.read(memory, mask) for block in self.blocks]

    def forward(
        self, x: Tensor, memory: list[Memory], caches: Sequence[Callable[[Tensor], Tensor]] | None = None
    ) -> Tensor:
        """Map x [B, S, n, W] to [B, S, n, W], each vector given those up to it and the memory that `read` returned.

        Without caches, x is the whole sequences; with one cache per block, it is the next vector of each, n = 1.
        """
        attends, drop = (caches, _keep) if caches else ([causal_attention] * len(self.blocks), self.dropout)
        for block, layer, attend in zip(self.blocks, memory, attends, strict=True):
            x = block(x, layer, attend, drop)
        return self.norm(x)


class WrittenCache:
    """Cache of keys and values that are written in place, without gradient.

    Args:
        keys_values: empty storage for N steps of R sequences, [2, R, H, N, W / H].
    """

    def __init__(self, keys_values: Tensor) -> None:
        self.keys_values = keys_values
        self.length = 0

    def __call__(self, projected: Tensor) -> Tensor:
        """Store the next step of the projections [3, R, H, 1, W / H] and return its attention, [R, H, 1, W / H]."""
        self.keys_values[..., self.length, :] = projected[1:].squeeze(3)
        self.length += 1
        return attention(projected[0], *self.keys_values[..., : self.length, :])

    def fill(self, projected: Tensor) -> Tensor:
        """Write the first n steps at once and return their causal attention, [R, H, n, D], as n single steps would.

        `projected` holds the queries, keys and values of the steps, [3, R, H, n, D].
        """
        self.length = projected.shape[3]
        self.keys_values[..., : self.length, :] = projected[1:]
        return causal_attention(projected)


class GrowingCache:
    """Cache of keys and values that keep their gradient: concatenated at every step, never written in place.

    The concatenation is recomputed in the backward pass instead of stored, so that memory grows with N, not with its
    square.
    """

    def __init__(self) -> None:
        self.keys_values: list[Tensor] = []

    def __call__(self, projected: Tensor) -> Tensor:
        """Store the next step of the projections [3, R, H, 1, W / H] and return its attention, [R, H, 1, W / H]."""
        self.keys_values.append(projected[1:])
        return checkpoint(
            _joined_attention, projected[0], *self.keys_values, use_reentrant=False, preserve_rng_state=False
        )


def _joined_attention(queries: Tensor, *keys_values: Tensor) -> Tensor:
    return attention(queries, *torch.cat(keys_values, 3))


def attention(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return softmax(q k^T / sqrt(D)) v, [R, H, n, D], for queries [R, H, n, D] and keys and values [R, H, P, D].

    Keys are left out where the mask, bool [R, 1, 1, P], is False.
    """
    if queries.shape[2] < _FEW_QUERIES:
        scores = queries * queries.shape[-1] ** -0.5 @ keys.transpose(2, 3)
        if mask is not None:
            scores = scores.masked_fill(~mask, -inf)
        return scores.softmax(-1) @ values
    return F.scaled_dot_product_attention(queries, keys, values, mask)


def causal_attention(projected: Tensor) -> Tensor:
    """Return the attention of each position to itself and earlier positions, for projections [3, R, H, N, D]."""
    queries, keys, values = projected
    return F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
