"""A causal transformer that writes codes one after another while it reads a memory: in parallel, or step by step.

A. Vaswani et al., "Attention Is All You Need" (2017), the decoder, with the norms before each sublayer. A step costs
the work of one position, for the keys and values of those before it are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from narrows.errors import NarrowsError
from narrows.networks.transformer import check_heads, sinusoids

__all__ = [
    "CausalBlock",
    "CausalTransformer",
    "CodeState",
    "CodeTransformer",
    "GrowingCache",
    "StepLinear",
    "WrittenCache",
]

# Below this many queries the fused kernel of a CPU is slower than two products, which read the keys as they lie.
_FEW_QUERIES = 8
# Up to this many rows a CPU's threads share a product better by its columns (see `StepLinear`).
_FEW_ROWS = 64


class StepLinear(nn.Linear):
    """A linear map whose threads share the weights where there are few rows, as in a step of a few sequences.

    Then the time goes into reading the weights: W x^T splits them among the threads, x W^T does not.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map x [..., in] to [..., out]."""
        rows = x.numel() // self.in_features
        if rows > _FEW_ROWS or x.device.type != "cpu" or torch.get_num_threads() == 1:
            return super().forward(x)
        columns = torch.addmm(self.bias.unsqueeze(1), self.weight, x.reshape(rows, -1).T)
        return columns.T.reshape(*x.shape[:-1], self.out_features)


def _keep(x: Tensor) -> Tensor:
    return x


class CausalBlock(nn.Module):
    """Attention to the vectors before, to the memory, and a network of one hidden layer, each added after a norm.

    Args:
        width: W, features.
        heads: H, which divide the width.
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

    def read(self, memory: Tensor) -> Tensor:
        """The keys and values of a memory [B, P, W], [2, B, H, P, W / H]."""
        return self._by_head(self.keys_values(memory), 2)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        attend: Callable[[Tensor], Tensor],
        drop: Callable[[Tensor], Tensor] = _keep,
    ) -> Tensor:
        """Map x [B, S, n, W], given the keys and values of the memory.

        `attend` maps the queries, keys and values [3, B * S, H, n, W / H] to what the queries find, and `drop` what is
        then added to x.
        """
        found = attend(self._by_head(self.project(self.norm(x)).flatten(0, 1), 3))
        x = x + drop(self.out(found.transpose(1, 2).reshape(x.shape)))
        (queries,) = self._by_head(self.query(self.cross_norm(x)).flatten(1, 2), 1)
        x = x + drop(self.cross_out(attention(queries, *memory.to(queries.dtype)).transpose(1, 2).reshape(x.shape)))
        return x + drop(self.mlp(x))

    def _by_head(self, projected: Tensor, parts: int) -> Tensor:
        """[R, n, parts * W] -> [parts, R, H, n, W / H]."""
        return projected.unflatten(2, (parts, self.heads, -1)).permute(2, 0, 3, 1, 4)


class CausalTransformer(nn.Module):
    """Blocks and a last norm, for S sequences of each of B examples, which share their example's memory.

    Args:
        width: W, features.
        layers: blocks.
        heads: attention heads of a block, which divide the width.
        dropout: probability with which a feature that a sublayer adds is dropped in training; a step drops none.

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

    def read(self, memory: Tensor) -> list[Tensor]:
        """The keys and values of a memory [B, P, W] for each block, [2, B, H, P, W / H]."""
        return [block.read(memory) for block in self.blocks]

    def forward(
        self, x: Tensor, memory: list[Tensor], caches: Sequence[Callable[[Tensor], Tensor]] | None = None
    ) -> Tensor:
        """Map x [B, S, n, W], each vector given those up to it and what `read` made of the memory: [B, S, n, W].

        Without caches x is the whole of the sequences; with one for each block it is the next vector of each, n = 1.
        """
        attends, drop = (caches, _keep) if caches else ([causal_attention] * len(self.blocks), self.dropout)
        for block, keys_values, attend in zip(self.blocks, memory, attends, strict=True):
            x = block(x, keys_values, attend, drop)
        return self.norm(x)


class WrittenCache:
    """Keys and values written in place, without gradient.

    Args:
        keys_values: room for N steps of R sequences, [2, R, H, N, W / H].
    """

    def __init__(self, keys_values: Tensor) -> None:
        self.keys_values = keys_values
        self.length = 0

    def __call__(self, projected: Tensor) -> Tensor:
        """What the queries of the next step find, [R, H, 1, W / H], of its projections [3, R, H, 1, W / H]."""
        self.keys_values[..., self.length, :] = projected[1:].squeeze(3)
        self.length += 1
        return attention(projected[0], *self.keys_values[..., : self.length, :])


class GrowingCache:
    """Keys and values that keep their gradient: joined anew at every step, nothing is written in place.

    The joined ones are not kept for the gradient but joined again, so that memory grows with N and not with its square.
    """

    def __init__(self) -> None:
        self.keys_values: list[Tensor] = []

    def __call__(self, projected: Tensor) -> Tensor:
        """What the queries of the next step find, [R, H, 1, W / H], of its projections [3, R, H, 1, W / H]."""
        self.keys_values.append(projected[1:])
        return checkpoint(
            _joined_attention, projected[0], *self.keys_values, use_reentrant=False, preserve_rng_state=False
        )


class CodeTransformer(nn.Module):
    """Logits of the N codes of a grid, each given the codes before it and features that it attends to.

    The codes are in row order, the M codes of a position one after another. A step reads the embedding of the code
    before, or of the start, and that of the code's place: sinusoids of its position, a learnt vector of its codebook.

    Args:
        codebooks: M, the codes per position.
        codebook_size: K, the values a code can take.
        width: W, features.
        layers: blocks.
        heads: attention heads of a block, which divide the width.
        dropout: probability with which a feature that a sublayer adds is dropped in training; a step drops none.

    Raises:
        NarrowsError: if `layers` is below 1, `heads` does not divide `width`, or `dropout` is not in [0, 1).
    """

    def __init__(
        self, codebooks: int, codebook_size: int, width: int, layers: int, heads: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.transformer = CausalTransformer(width, layers, heads, dropout)
        self.memory_norm = nn.LayerNorm(width)
        self.start = nn.Parameter(torch.randn(width))
        self.codes = nn.Parameter(torch.randn(codebooks, codebook_size, width))
        self.books = nn.Parameter(torch.randn(codebooks, width))
        # Small, so that at first all codes are about as probable.
        self.weight = nn.Parameter(0.02 * torch.randn(codebooks, codebook_size, width))
        self.bias = nn.Parameter(torch.zeros(codebooks, codebook_size))

    def read(self, features: Tensor) -> list[Tensor]:
        """The memory: keys and values of features [B, W, *grid] and their positions for each block."""
        tokens = features.reshape(*features.shape[:2], -1).transpose(1, 2).to(self.start.dtype)
        positions = sinusoids(tuple(features.shape[2:]), len(self.start), features.device)
        return self.transformer.read(self.memory_norm(tokens) + positions)

    def forward(self, codes: Tensor, memory: list[Tensor], grid: tuple[int, ...]) -> Tensor:
        """Logits of codes [B, S, N], or of the first n of them at whole positions, all at once: [B, S, n, K]."""
        books, size, _ = self.codes.shape
        rows = codes.unflatten(2, (-1, books)) + torch.arange(books, device=codes.device) * size
        embedded = F.embedding(rows.flatten(2), self.codes.flatten(0, 1))
        start = self.start.expand_as(embedded[:, :, :1])
        x = torch.cat([start, embedded[:, :, :-1]], 2) + self._places(grid)[: codes.shape[2]]
        hidden = self.transformer(x, memory)
        return torch.stack([self.logits(hidden[:, :, book::books], book) for book in range(books)], 3).flatten(2, 3)

    @torch.no_grad()
    def begin(self, memory: list[Tensor], grid: tuple[int, ...], samples: int = 1) -> CodeState:
        """The state of S sequences of each example, to be written in full precision and without gradient."""
        places = self._places(grid)
        memory = [layer.to(places.dtype).contiguous() for layer in memory]
        caches = [
            WrittenCache(layer.new_empty(2, samples * layer.shape[1], layer.shape[2], len(places), layer.shape[4]))
            for layer in memory
        ]
        return CodeState(self, memory, places, samples, caches)

    @torch.no_grad()
    def write(
        self, memory: list[Tensor], grid: tuple[int, ...], samples: int, choose: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Write S sequences of each example in full precision, without gradient: codes [B, S, N].

        `choose` maps the logits of the next codes [B, S, K] to the codes [B, S].
        """
        with torch.autocast(self.start.device.type, enabled=False):
            return torch.stack(self.begin(memory, grid, samples).run(choose), 2)

    def mix(
        self, memory: list[Tensor], grid: tuple[int, ...], samples: int, relax: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Write S sequences of mixtures of codes with the gradient of their weights: [B, S, N, K].

        `relax` maps the logits of the next codes [B, S, K] to weights [B, S, K], by which the embeddings are mixed.
        """
        caches = [GrowingCache() for _ in memory]
        return torch.stack(CodeState(self, memory, self._places(grid), samples, caches).run(relax), 2)

    def embed(self, codes: Tensor, book: int) -> Tensor:
        """Embeddings [..., W] of codes [...] of a codebook, or of mixtures of its codes by weights [..., K]."""
        table = self.codes[book]
        return codes @ table if codes.is_floating_point() else F.embedding(codes, table)

    def logits(self, hidden: Tensor, book: int) -> Tensor:
        """Logits [..., K] of codes of a codebook, from features [..., W], in full precision."""
        with torch.autocast(hidden.device.type, enabled=False):
            return F.linear(hidden.to(self.weight.dtype), self.weight[book], self.bias[book])

    def _places(self, grid: tuple[int, ...]) -> Tensor:
        """The embeddings of the places of the N codes of a grid, [N, W]."""
        positions = sinusoids(grid, len(self.start), self.start.device)
        return (positions.unsqueeze(1) + self.books).flatten(0, 1)


class CodeState:
    """S sequences of codes of each of B examples, as far as they are written.

    Args:
        network: the network that writes them.
        memory: what it has read, [2, B, H, P, W / H] for each block.
        places: the embeddings of the places of the N codes, [N, W].
        samples: S.
        caches: the keys and values of the codes so far, for each block.

    Attributes:
        index: how many logits were given, those of the code that is next included.
    """

    def __init__(
        self,
        network: CodeTransformer,
        memory: list[Tensor],
        places: Tensor,
        samples: int,
        caches: Sequence[Callable[[Tensor], Tensor]],
    ) -> None:
        self.network, self.memory, self.caches = network, memory, caches
        self.places = places.unbind()
        self.start = network.start.expand(memory[0].shape[1], samples, -1)
        self.index = 0

    def step(self, previous: Tensor | None) -> Tensor:
        """Take in the codes before, [B, S], or weights [B, S, K], and return the logits of the next, [B, S, K].

        Raises:
            NarrowsError: if `previous` is other than None at the first code, or None at another, or all are written.
        """
        if self.index == len(self.places):
            raise NarrowsError(f"all {self.index} codes are drawn: call begin() for new examples")
        if (previous is None) != (self.index == 0):
            raise NarrowsError("step() takes None at the first code and the code before at every other")
        books = len(self.network.books)
        x = self.start if previous is None else self.network.embed(previous, (self.index - 1) % books)
        x = (x + self.places[self.index]).unsqueeze(2)
        hidden = self.network.transformer(x, self.memory, self.caches).squeeze(2)
        self.index += 1
        return self.network.logits(hidden, (self.index - 1) % books)

    def run(self, choose: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """What `choose` makes of the logits at each place, codes or weights, which the next step reads."""
        chosen: list[Tensor] = []
        for _ in self.places:
            chosen.append(choose(self.step(chosen[-1] if chosen else None)))
        return chosen


def _joined_attention(queries: Tensor, *keys_values: Tensor) -> Tensor:
    return attention(queries, *torch.cat(keys_values, 3))


def attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(D)) v of queries [R, H, n, D] and P keys and values [R, H, P, D]: [R, H, n, D]."""
    if queries.shape[2] < _FEW_QUERIES:
        scores = queries * queries.shape[-1] ** -0.5 @ keys.transpose(2, 3)
        return scores.softmax(-1) @ values
    return F.scaled_dot_product_attention(queries, keys, values)


def causal_attention(projected: Tensor) -> Tensor:
    """Attention of each position to itself and those before, of projections [3, R, H, N, D]."""
    queries, keys, values = projected
    return F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
