"""Causal transformer over codes that attends to a memory: all logits in one pass, or code by code.

It is the recognition network of DAPS (M. Drolet et al., "Discrete Variational Autoencoding via Policy Search") and the
network of a prior.
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
    """Computes the logits of the N codes of a grid, each given the codes before it and a memory that it attends to.

    The codes are in row-major order, with the M codes of a position one after another. The input of a step is the
    embedding of the previous code (a learnt vector at the first step), plus sinusoids of the position of the next code,
    plus a learnt vector of its codebook.

    Args:
        codebooks: M, codes per position.
        codebook_size: K, number of values of a code.
        width: W, features.
        layers: number of blocks.
        heads: attention heads per block; must divide `width`.
        dropout: dropout probability of the terms that sublayers add in training; not applied in steps.

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
        # Small, so that all codes start about equally probable.
        self.weight = nn.Parameter(0.02 * torch.randn(codebooks, codebook_size, width))
        self.bias = nn.Parameter(torch.zeros(codebooks, codebook_size))

    def read(self, features: Tensor, mask: Tensor | None = None) -> list[Memory]:
        """Return the memory: each block's keys and values of features [B, W, *grid] with their positions.

        No code attends to the features where the mask, bool [B, *grid], is False.
        """
        tokens = features.reshape(*features.shape[:2], -1).transpose(1, 2).to(self.start.dtype)
        positions = sinusoids(tuple(features.shape[2:]), len(self.start), features.device)
        counted = None if mask is None else mask.flatten(1)
        return self.transformer.read(self.memory_norm(tokens) + positions, counted)

    def forward(
        self, codes: Tensor, memory: list[Memory], grid: tuple[int, ...], features: Tensor | None = None
    ) -> Tensor:
        """Return the logits of codes [B, S, N], or of the first n at whole positions, in one pass: [B, S, n, K].

        Args:
            codes: [B, S, n].
            memory: keys and values that `read` returned.
            grid: the code grid.
            features: terms to add to the embeddings of the P positions of the grid, [B, P, W]; None for no terms.
        """
        books = len(self.books)
        hidden = self.transformer(self._inputs(codes, self._places(grid, features)), memory)
        return torch.stack([self.logits(hidden[:, :, book::books], book) for book in range(books)], 3).flatten(2, 3)

    @torch.no_grad()
    def begin(
        self,
        memory: list[Memory],
        grid: tuple[int, ...],
        samples: int = 1,
        features: Tensor | None = None,
        past: Tensor | None = None,
    ) -> CodeState:
        """Return the state of S sequences per example. Its steps run in full precision and have no gradient.

        Args:
            memory: keys and values that `read` returned.
            grid: the code grid.
            samples: S.
            features: terms to add to the embeddings of the P positions of the grid, [B, P, W]; None for no terms.
            past: the first n codes of each sequence, int64 [B, S, n], to continue from; None to start from scratch.
        """
        places = self._places(grid, features)
        memory = [Memory(layer.keys_values.to(places.dtype).contiguous(), layer.mask) for layer in memory]
        caches = []
        for keys_values, _ in memory:
            _, batch, heads, _, width = keys_values.shape
            caches.append(WrittenCache(keys_values.new_empty(2, samples * batch, heads, places.shape[-2], width)))
        state = CodeState(self, memory, places, samples, caches)
        if past is not None and past.shape[2]:
            self.transformer(self._inputs(past, places), memory, [cache.fill for cache in caches])
            state.resume(past)
        return state

    @torch.no_grad()
    def write(
        self, memory: list[Memory], grid: tuple[int, ...], samples: int, choose: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Generate S sequences of codes per example, [B, S, N], in full precision and without gradient.

        `choose` maps the logits of the next codes [B, S, K] to the codes [B, S].
        """
        with torch.autocast(self.start.device.type, enabled=False):
            return torch.stack(self.begin(memory, grid, samples).run(choose), 2)

    def mix(
        self, memory: list[Memory], grid: tuple[int, ...], samples: int, relax: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Generate S sequences of relaxed codes per example, weights [B, S, N, K] that keep their gradient.

        `relax` maps the logits of the next codes [B, S, K] to weights [B, S, K]; the next step reads the embeddings
        averaged with these weights.
        """
        caches = [GrowingCache() for _ in memory]
        return torch.stack(CodeState(self, memory, self._places(grid), samples, caches).run(relax), 2)

    def embed(self, codes: Tensor, book: int) -> Tensor:
        """Return the embeddings [..., W] of codes [...] of a codebook, or their averages by weights [..., K]."""
        table = self.codes[book]
        return codes @ table if codes.is_floating_point() else F.embedding(codes, table)

    def logits(self, hidden: Tensor, book: int) -> Tensor:
        """Return the logits [..., K] of a codebook's codes from features [..., W], in full precision."""
        with torch.autocast(hidden.device.type, enabled=False):
            return F.linear(hidden.to(self.weight.dtype), self.weight[book], self.bias[book])

    def _inputs(self, codes: Tensor, places: Tensor) -> Tensor:
        """Return the inputs [B, S, n, W] of the first n steps, which predict the codes [B, S, n]."""
        books, size, _ = self.codes.shape
        rows = codes + torch.arange(codes.shape[2], device=codes.device) % books * size
        embedded = F.embedding(rows, self.codes.flatten(0, 1))
        start = self.start.expand_as(embedded[:, :, :1])
        return torch.cat([start, embedded[:, :, :-1]], 2) + places[..., : codes.shape[2], :]

    def _places(self, grid: tuple[int, ...], features: Tensor | None = None) -> Tensor:
        """Return the position and codebook embeddings of N codes, [N, W], or with features [B, 1, N, W]."""
        positions = sinusoids(grid, len(self.start), self.start.device)
        if features is not None:
            positions = positions + features.unsqueeze(1)
        return (positions.unsqueeze(-2) + self.books).flatten(-3, -2)


class CodeState:
    """S sequences of codes of each of B examples, generated code by code.

    Args:
        network: the network to run.
        memory: the memory for each block.
        places: position and codebook embeddings of the N codes, [N, W] or [B, 1, N, W].
        samples: S.
        caches: for each block, a function that stores the keys and values of a step and returns its attention.

    Attributes:
        index: number of codes whose logits are known.
        first: value of `index` before the first step, the number of codes given at the start.
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
        self.places = places.unbind(-2)
        self.start = network.start.expand(memory[0].keys_values.shape[1], samples, -1)
        self.index = self.first = 0

    def resume(self, past: Tensor) -> None:
        """Continue after the codes [B, S, n], n > 0, whose steps are in the caches; the next step is the first."""
        self.index = self.first = past.shape[2]
        self.start = self.network.embed(past[..., -1], (self.index - 1) % len(self.network.books))

    def step(self, previous: Tensor | None) -> Tensor:
        """Append codes [B, S], or weights [B, S, K], and return the logits of the next codes, [B, S, K].

        Raises:
            NarrowsError: if `previous` is given at the first step or None at a later one, or all codes are known.
        """
        if self.index == len(self.places):
            raise NarrowsError(f"all {self.index} codes are drawn: call begin() for new examples")
        if (previous is None) != (self.index == self.first):
            raise NarrowsError("pass None at the first step after begin() and the previous code at every later one")
        books = len(self.network.books)
        x = self.start if previous is None else self.network.embed(previous, (self.index - 1) % books)
        x = (x + self.places[self.index]).unsqueeze(2)
        hidden = self.network.transformer(x, self.memory, self.caches).squeeze(2)
        self.index += 1
        return self.network.logits(hidden, (self.index - 1) % books)

    def run(self, choose: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """Return the codes or weights that `choose` returns for the logits of each code; the next step reads them."""
        chosen: list[Tensor] = []
        for _ in self.places:
            chosen.append(choose(self.step(chosen[-1] if chosen else None)))
        return chosen
