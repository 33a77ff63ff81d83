"""Codes written one after another by a causal transformer that reads a memory: all logits at once, or step by step.

The recognition network of DAPS (M. Drolet et al., "Discrete Variational Autoencoding via Policy Search") and a prior.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from narrows.errors import NarrowsError
from narrows.networks.causal import CausalTransformer, GrowingCache, Memory, WrittenCache
from narrows.networks.transformer import sinusoids

__all__ = ["CodeState", "CodeTransformer"]


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

    def read(self, features: Tensor, mask: Tensor | None = None) -> list[Memory]:
        """The memory: keys and values of features [B, W, *grid] and their positions for each block.

        No code attends to the features where the mask, bool [B, *grid], is False.
        """
        tokens = features.reshape(*features.shape[:2], -1).transpose(1, 2).to(self.start.dtype)
        positions = sinusoids(tuple(features.shape[2:]), len(self.start), features.device)
        counted = None if mask is None else mask.flatten(1)
        return self.transformer.read(self.memory_norm(tokens) + positions, counted)

    def forward(self, codes: Tensor, memory: list[Memory], grid: tuple[int, ...]) -> Tensor:
        """Logits of codes [B, S, N], or of the first n of them at whole positions, all at once: [B, S, n, K]."""
        books, size, _ = self.codes.shape
        rows = codes.unflatten(2, (-1, books)) + torch.arange(books, device=codes.device) * size
        embedded = F.embedding(rows.flatten(2), self.codes.flatten(0, 1))
        start = self.start.expand_as(embedded[:, :, :1])
        x = torch.cat([start, embedded[:, :, :-1]], 2) + self._places(grid)[: codes.shape[2]]
        hidden = self.transformer(x, memory)
        return torch.stack([self.logits(hidden[:, :, book::books], book) for book in range(books)], 3).flatten(2, 3)

    @torch.no_grad()
    def begin(self, memory: list[Memory], grid: tuple[int, ...], samples: int = 1) -> CodeState:
        """The state of S sequences of each example, to be written in full precision and without gradient."""
        places = self._places(grid)
        memory = [Memory(layer.keys_values.to(places.dtype).contiguous(), layer.mask) for layer in memory]
        caches = []
        for keys_values, _ in memory:
            _, batch, heads, _, width = keys_values.shape
            caches.append(WrittenCache(keys_values.new_empty(2, samples * batch, heads, len(places), width)))
        return CodeState(self, memory, places, samples, caches)

    @torch.no_grad()
    def write(
        self, memory: list[Memory], grid: tuple[int, ...], samples: int, choose: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Write S sequences of each example in full precision, without gradient: codes [B, S, N].

        `choose` maps the logits of the next codes [B, S, K] to the codes [B, S].
        """
        with torch.autocast(self.start.device.type, enabled=False):
            return torch.stack(self.begin(memory, grid, samples).run(choose), 2)

    def mix(
        self, memory: list[Memory], grid: tuple[int, ...], samples: int, relax: Callable[[Tensor], Tensor]
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
        memory: what it has read, for each block.
        places: the embeddings of the places of the N codes, [N, W].
        samples: S.
        caches: the keys and values of the codes so far, for each block.

    Attributes:
        index: how many logits were given, those of the code that is next included.
    """

    def __init__(
        self,
        network: CodeTransformer,
        memory: list[Memory],
        places: Tensor,
        samples: int,
        caches: Sequence[Callable[[Tensor], Tensor]],
    ) -> None:
        self.network, self.memory, self.caches = network, memory, caches
        self.places = places.unbind()
        self.start = network.start.expand(memory[0].keys_values.shape[1], samples, -1)
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
