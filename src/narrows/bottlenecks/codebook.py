"""Codebooks: nearest-vector search, ways to learn the vectors, and ways to keep codes in use.

A. van den Oord, O. Vinyals, K. Kavukcuoglu, "Neural Discrete Representation Learning", equations 1, 3 and 6-8.
Codebooks learn from the global batch, so they stay identical in all processes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import inf
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from narrows.bottlenecks.usage import count
from narrows.distributed import global_rows, global_sum
from narrows.errors import NarrowsError
from narrows.tracing import is_traced
from narrows.waiting import is_on_host

__all__ = [
    "Codebook",
    "CodebookCare",
    "CosineCodebook",
    "EMACodebook",
    "KMeansStart",
    "LearntCodebook",
    "RestartUnused",
    "is_finite",
    "lookup",
    "nearest",
]

# A CPU finds the minimum of 64 adjacent scores with vector instructions, but their argmin one score at a time. Finding
# the minimum of each block first leaves few scores to search.
_BLOCK = 64
# Scores held at once: 64 MiB. On a CPU, at most those of 4096 tokens, so that a typical codebook's stay in the cache.
_SCORES = 2**24
_CPU_TOKENS = 4096


@torch.no_grad()
def nearest(tokens: Tensor, points: Tensor) -> Tensor:
    """Return the code of the nearest point, argmin_k ||z - e_k|| (equation 1); the lowest code wins an exact tie.

    Compares ||e_k||^2 / 2 - z e_k, which is half the squared distance up to ||z||^2 / 2, the same for every k.

    Args:
        tokens: vectors z, [n, M, dim].
        points: M codebooks of vectors e, [M, K, dim].

    Returns:
        Codes [n, M] in [0, K).
    """
    if is_traced():
        return _nearest_plainly(tokens, points)
    total, codebooks, _ = tokens.shape
    size = points.shape[1]
    blocks = -(-size // _BLOCK)
    width = blocks * _BLOCK
    offsets = F.pad(points.square().sum(2) / 2, (0, width - size), value=inf)
    points = F.pad(points, (0, 0, 0, width - size))

    chunk = max(_SCORES // width, 1)
    if tokens.device.type == "cpu":
        chunk = min(chunk, _CPU_TOKENS)
    scores = tokens.new_empty(min(chunk, total), width)
    first_blocks = torch.arange(len(scores), device=tokens.device) * blocks
    codes = torch.empty(total, codebooks, dtype=torch.long, device=tokens.device)
    for book in range(codebooks):
        for part, found in zip(tokens[:, book].split(chunk), codes[:, book].split(chunk), strict=True):
            n = len(part)
            torch.addmm(offsets[book], part, points[book].T, alpha=-1, out=scores[:n])
            block = scores[:n].view(n, blocks, _BLOCK).amin(2).argmin(1)
            within = scores.view(-1, _BLOCK).index_select(0, first_blocks[:n] + block).argmin(1)
            torch.add(within, block, alpha=_BLOCK, out=found)
    return codes.clamp_max_(size - 1)  # a token that is not finite may have matched the padding


def _nearest_plainly(tokens: Tensor, points: Tensor) -> Tensor:
    """Do the same in operations that can be exported, with all scores at once; argmin returns the lowest on a tie."""
    halves = points.square().sum(2) / 2
    return torch.baddbmm(halves.unsqueeze(1), tokens.transpose(0, 1), points.transpose(1, 2), alpha=-1).argmin(2).T


def is_finite(tokens: Tensor) -> Tensor:
    """Return which tokens [n, M, dim] are finite, bool [n, M]; a token whose sum overflows counts as not finite."""
    return tokens.sum(2).isfinite()


def lookup(points: Tensor, codes: Tensor) -> Tensor:
    """Return the points [n, M, dim] of codes [n, M] in M codebooks [M, K, dim]."""
    return F.embedding(_rows(codes, points.shape[1]), points.flatten(0, 1))


def _sums(tokens: Tensor, codes: Tensor, size: int) -> Tensor:
    """Return the sum of the tokens of each code over the global batch, [M, K, dim]; tokens of code K are left out."""
    codebooks, dim = tokens.shape[1:]
    sums = tokens.new_zeros(codebooks * (size + 1), dim)
    sums.index_add_(0, _rows(codes, size + 1).flatten(), tokens.flatten(0, 1))
    return global_sum(sums).view(codebooks, size + 1, dim)[:, :size]


def _rows(codes: Tensor, size: int) -> Tensor:
    """Return the rows [n, M] of codes [n, M] in the concatenation of M codebooks of `size` vectors."""
    return codes + torch.arange(codes.shape[1], device=codes.device) * size


class Codebook(nn.Module):
    """M codebooks of K fixed vectors; base class of the codebooks that learn.

    Args:
        codebooks: M.
        codebook_size: K.
        dim: length of a vector.

    Attributes:
        vectors: [M, K, dim], uniform over [-1/K, 1/K) as in the code released with the paper.
        steps: training batches seen.
        idle: training batches since each code was last used or placed, [M, K].
    """

    vectors: Tensor
    steps: Tensor
    idle: Tensor

    def __init__(self, codebooks: int, codebook_size: int, dim: int):
        super().__init__()
        self.size = codebook_size
        self._seen = 0
        vectors = torch.empty(codebooks, codebook_size, dim).uniform_(-1 / codebook_size, 1 / codebook_size)
        self.register_buffer("vectors", vectors)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.register_buffer("idle", torch.zeros(codebooks, codebook_size, dtype=torch.long))

    @property
    def points(self) -> Tensor:
        """The points e that codes stand for, [M, K, dim], in float32."""
        return self.vectors.float()

    def require_float32(self) -> None:
        """Check that the vectors have the precision that learning needs.

        Raises:
            NarrowsError: if the module was converted to a type other than float32.
        """
        if self.vectors.dtype != torch.float32:
            raise NarrowsError(
                f"a {type(self).__name__} cannot learn in {self.vectors.dtype}: keep it in float32 and use autocast"
            )

    def project(self, tokens: Tensor) -> Tensor:
        """Map tokens [n, M, dim] to the space of the points."""
        return tokens

    def losses(self, tokens: Tensor, codes: Tensor, latents: int | Tensor) -> dict[str, Tensor]:
        """Return the losses from which the optimiser learns the vectors, by name.

        Args:
            tokens: [n, M, dim].
            codes: [n, M]; K marks a token that is ignored.
            latents: number of latents that the losses average over.
        """
        return {}

    @torch.no_grad()
    def observe(self, tokens: Tensor, codes: Tensor, counts: Tensor) -> None:
        """Learn from a training batch.

        Args:
            tokens: tokens of this process, [n, M, dim].
            codes: codes of this process, [n, M]; K marks a token that is ignored.
            counts: counts of the global batch, [M, K].
        """
        self.steps += 1
        self.idle.add_(1).masked_fill_(counts > 0, 0)

    @torch.no_grad()
    def place(self, chosen: Tensor, vectors: Tensor) -> None:
        """Set the codes `chosen`, bool [M, K], to new vectors [M, K, dim] and reset their history."""
        self.vectors.copy_(torch.where(chosen.unsqueeze(2), vectors, self.vectors))
        self.idle.masked_fill_(chosen, 0)

    def place_at_tokens(self, chosen: Tensor, tokens: Tensor) -> None:
        """Set the codes `chosen` [M, K] to distinct finite tokens of the global batch, until the tokens run out."""
        if is_on_host(chosen) and not chosen.any():
            return  # same result, without the work
        finite, books = is_finite(tokens), len(chosen)
        seeds = self.steps * books + torch.arange(books, device=chosen.device)
        drawn = [global_rows(tokens[:, m], finite[:, m], self.size, seeds[m]) for m in range(books)]
        rows, found = (torch.stack(parts) for parts in zip(*drawn, strict=True))
        turn = (chosen.cumsum(1) - 1).clamp_min(0)
        self.place(chosen & found.gather(1, turn), rows.gather(1, turn.unsqueeze(2).expand_as(rows)))

    def has_seen(self, batches: int) -> bool:
        """Return whether at least `batches` training batches were seen; afterwards the device is not queried again."""
        if self._seen < batches:
            self._seen = int(self.steps)
        return self._seen >= batches

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self._seen = 0


class LearntCodebook(Codebook):
    """Codebook whose vectors the optimiser moves towards their tokens by the loss ||sg[z] - e||^2 (equation 3).

    Args:
        codebooks: M.
        codebook_size: K.
        dim: length of a vector.
    """

    def __init__(self, codebooks: int, codebook_size: int, dim: int):
        super().__init__(codebooks, codebook_size, dim)
        vectors = self.vectors
        del self.vectors
        self.vectors = nn.Parameter(vectors)

    def losses(self, tokens: Tensor, codes: Tensor, latents: int | Tensor) -> dict[str, Tensor]:
        """Return the codebook loss: the squared distance averaged over latents; tokens of code K contribute 0."""
        counted = (codes < self.size).unsqueeze(2)
        found = lookup(self.points, codes.clamp_max(self.size - 1))
        # The difference itself must be 0, not only its square: the gradient of NaN times 0 is NaN.
        targets = torch.where(counted, tokens.detach(), found.detach())
        return {"codebook": (found - targets).square().sum() / latents}


class EMACodebook(Codebook):
    """Codebook whose vectors are moving averages of their tokens, e = m / N (equations 6-8).

    Args:
        codebooks: M.
        codebook_size: K.
        dim: length of a vector.
        decay: gamma, the weight of the past in each update, in [0, 1).
        smoothing: pseudo-count that Laplace smoothing adds to each N, so that an unused code does not divide by zero.
    """

    counts: Tensor
    sums: Tensor

    def __init__(self, codebooks: int, codebook_size: int, dim: int, decay: float = 0.99, smoothing: float = 1e-5):
        super().__init__(codebooks, codebook_size, dim)
        if not 0 <= decay < 1:
            raise NarrowsError(f"decay must be in [0, 1), not {decay}")
        if smoothing <= 0:
            raise NarrowsError(f"smoothing must be above 0, not {smoothing}")
        self.decay, self.smoothing = decay, smoothing
        self.register_buffer("counts", torch.ones(codebooks, codebook_size))
        self.register_buffer("sums", self.vectors.clone())

    @torch.no_grad()
    def observe(self, tokens: Tensor, codes: Tensor, counts: Tensor) -> None:
        """Update the moving averages."""
        super().observe(tokens, codes, counts)
        self.counts.lerp_(counts, 1 - self.decay)
        self.sums.lerp_(_sums(tokens, codes, self.size), 1 - self.decay)
        total = self.counts.sum(1, keepdim=True)
        smoothed = (self.counts + self.smoothing) * (total / (total + self.size * self.smoothing))
        torch.div(self.sums, smoothed.unsqueeze(2), out=self.vectors)

    @torch.no_grad()
    def place(self, chosen: Tensor, vectors: Tensor) -> None:
        """Set the vectors, and count each as one token seen."""
        super().place(chosen, vectors)
        self.counts.masked_fill_(chosen, 1)
        self.sums.copy_(torch.where(chosen.unsqueeze(2), vectors, self.sums))


class CosineCodebook(EMACodebook):
    """Codebook that compares directions only, with tokens and averages on the unit sphere, as in ViT-VQGAN (Yu 2022).

    Args:
        codebooks: M.
        codebook_size: K.
        dim: length of a vector.
        decay: gamma, the weight of the past in each update, in [0, 1).
        smoothing: pseudo-count that Laplace smoothing adds to each N.
    """

    @property
    def points(self) -> Tensor:
        """The points e on the unit sphere, [M, K, dim], in float32."""
        return F.normalize(super().points, dim=2)

    def project(self, tokens: Tensor) -> Tensor:
        """Normalise tokens to the unit sphere, [n, M, dim]."""
        return F.normalize(tokens, dim=2)


class CodebookCare(ABC):
    """Replaces codes that learning alone would leave unused; called before each training batch is quantised."""

    @abstractmethod
    def __call__(self, codebook: Codebook, tokens: Tensor) -> None:
        """Replace codes of `codebook`, given this process's tokens [n, M, dim].

        Tokens that are not finite are ignored; masked tokens are NaN.
        """


class KMeansStart(CodebookCare):
    """Initialises the codebook by k-means on the first training batches.

    Codes that no batch has used yet start at distinct tokens of the batch. If there are fewer tokens than such codes,
    the remaining codes wait for the next batch or keep their initial vectors.

    Args:
        batches: number of batches to use; set it above 1 if a batch has fewer tokens than there are codes.
        iterations: k-means iterations per batch.
    """

    def __init__(self, batches: int = 1, iterations: int = 10):
        if batches < 1 or iterations < 0:
            raise NarrowsError(f"batches must be at least 1 and iterations at least 0, not {batches} and {iterations}")
        self.batches, self.iterations = batches, iterations

    def __call__(self, codebook: Codebook, tokens: Tensor) -> None:
        """Run k-means if this is one of the first batches."""
        if codebook.has_seen(self.batches):
            return
        codebook.place_at_tokens(codebook.idle == codebook.steps, tokens)
        finite = is_finite(tokens)
        for _ in range(self.iterations):
            codes = nearest(tokens, codebook.points).masked_fill(~finite, codebook.size)
            counts = global_sum(count(codes, codebook.size))
            means = _sums(tokens, codes, codebook.size) / counts.unsqueeze(2)
            codebook.place(counts > 0, means)


class RestartUnused(CodebookCare):
    """Moves codes that have been unused for a while to random tokens of the batch.

    Args:
        after: number of training batches without use after which a code is moved.
    """

    def __init__(self, after: int = 100):
        if after < 1:
            raise NarrowsError(f"after must be at least 1 batch, not {after}")
        self.after = after

    def __call__(self, codebook: Codebook, tokens: Tensor) -> None:
        """Move the codes that were idle for `after` batches."""
        codebook.place_at_tokens(codebook.idle >= self.after, tokens)
