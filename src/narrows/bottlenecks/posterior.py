"""What every bottleneck produces: q(z|x) of a batch, and the fixed prior p(z) its rate is measured against."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from math import log
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import register_pytree_node

from narrows.bottlenecks.mask import count_positions
from narrows.errors import NarrowsError
from narrows.tracing import is_traced

__all__ = [
    "NOTHING",
    "Bottleneck",
    "CodePosterior",
    "DiscreteBottleneck",
    "Draw",
    "Posterior",
    "SampledPosterior",
    "require_floats",
]


NOTHING: Mapping[Any, Tensor] = MappingProxyType({})
"""No tensors by any name."""


class Draw(NamedTuple):
    """S latents of each of B examples, with their log-probabilities in nats."""

    z: Tensor
    """What the decoder reads, [S, B, C, *grid]."""
    log_q: Tensor
    """log q(z|x), [S, B]."""
    log_p: Tensor
    """log p(z) under the fixed prior, [S, B]."""
    rate: Tensor
    """KL(q(z|x) || p(z)) in nats, [B]: exact where it has a closed form, else estimated from the latents drawn."""
    statistics: Mapping[str, Tensor] = NOTHING
    """Figures of these latents worth logging, by name: scalars without gradient."""
    layer_rates: Mapping[tuple[str, int], Tensor] = NOTHING
    """The parts that the rate is the sum of, from the first latents to the last, by their group and their number in it:
    nats of each example, [B], without gradient; {} if it has no parts."""


class Posterior(ABC):
    """q(z|x) for a batch of B examples.

    Attributes:
        codes: integer codes [B, *grid], or [B, *grid, M] with M codes per position; None if the latents are continuous.
        losses: the bottleneck's own training losses by name, scalars with their weights applied.
        statistics: figures worth logging that are known before any draw, by name: scalars without gradient.
    """

    codes: Tensor | None = None
    losses: dict[str, Tensor]
    statistics: dict[str, Tensor]

    @property
    @abstractmethod
    def mode(self) -> Tensor:
        """The most probable latent, [B, C, *grid]: what a reconstruction is decoded from."""

    @abstractmethod
    def draw(self, samples: int = 1) -> Draw:
        """Draw `samples` latents (S) of each example; gradients flow through z wherever the pathwise one exists."""


class _Quantised(NamedTuple):
    z: Tensor
    codes: Tensor
    loss: Tensor


class CodePosterior(_Quantised, Posterior):  # type: ignore[misc]
    """A posterior with all its mass on one code per latent: the tuple (z, codes, loss), and what it is made of.

    It is a pytree, and a named tuple to whoever does not know it, so that parallel wrappers and hooks see its tensors.

    Attributes:
        z: the latents, [B, C, *grid], with the straight-through gradient to the features.
        codes: [B, *grid], or [B, *grid, M] with M > 1 codebooks.
        loss: the total of the losses, a scalar.
        losses: "commitment", and "codebook" if the codebook is learnt by its loss.
        statistics: "perplexity" and "usage" (share of codes in use) of the batch, averaged over the codebooks; of the
            global batch while the codebook learns, else of this process's own; "nonfinite", how many of its tokens are
            NaN or infinite.
        codebook_size: K.
        mask: True where a position counts, bool [B, *grid]; None if all do.

    Args:
        z: the latents.
        codes: their codes.
        loss: the total of the losses; None sums them.
        losses: by name; None where only their total is known.
        statistics: by name.
        codebook_size: K; 0 where it is not known, as in a copy that a wrapper made of the tuple alone.
        mask: the positions that count.
    """

    def __new__(
        cls,
        z: Tensor,
        codes: Tensor,
        loss: Tensor | None = None,
        losses: dict[str, Tensor] | None = None,
        statistics: dict[str, Tensor] | None = None,
        codebook_size: int = 0,
        mask: Tensor | None = None,
    ) -> CodePosterior:
        """Make the tuple; the rest are its attributes."""
        if loss is None:
            loss = sum((losses or {}).values(), start=torch.zeros((), device=z.device))
        posterior = super().__new__(cls, z, codes, loss)
        posterior.losses = {"loss": loss} if losses is None else losses
        posterior.statistics = statistics or {}
        posterior.codebook_size = codebook_size
        posterior.mask = mask
        return posterior

    codebook_size: int
    mask: Tensor | None

    # DataParallel looks for a named tuple's fields; PyTorch's pytree would take a tuple of them for the whole of it.
    _fields: ClassVar[list[str]] = ["z", "codes", "loss"]  # type: ignore[assignment,misc]

    @classmethod
    def _make(cls, parts: Iterable[Tensor]) -> CodePosterior:  # type: ignore[override]
        """Return the posterior of a tuple (z, codes, loss) alone."""
        z, codes, loss = parts
        return cls(z, codes, loss)

    def _replace(self, **changes: Any) -> CodePosterior:
        """Return a copy with other elements of the tuple."""
        return CodePosterior(
            **{**self._asdict(), **changes},
            losses=self.losses,
            statistics=self.statistics,
            codebook_size=self.codebook_size,
            mask=self.mask,
        )

    @property
    def rate(self) -> Tensor:
        """N log K of each example in nats under the uniform prior, [B], for its N latents that count."""
        batch, *latents = self.codes.shape
        if not self.codebook_size:
            raise NarrowsError("a copy of the tuple (z, codes, loss) alone does not know its codebook_size: no rate")
        if self.mask is not None:
            codebooks = self.codes.shape[self.mask.ndim :].numel()
            return count_positions(self.mask).float() * (codebooks * log(self.codebook_size))
        return self.z.new_full((batch,), torch.Size(latents).numel() * log(self.codebook_size), dtype=torch.float32)

    @property
    def mode(self) -> Tensor:
        """The only latent of each example, [B, C, *grid]."""
        return self.z

    def draw(self, samples: int = 1) -> Draw:
        """The one latent `samples` times over: log q = 0, log p = -N log K."""
        log_p = -self.rate.expand(samples, -1)
        return Draw(self.z.expand(samples, *self.z.shape), torch.zeros_like(log_p), log_p, self.rate)


def require_floats(features: Tensor) -> None:
    """Refuse features of another type, in which latents would be rounded.

    Raises:
        NarrowsError: if they are not floating point.
    """
    if not features.is_floating_point():
        raise NarrowsError(f"features must be floating point, not {features.dtype}")


def _flattened(posterior: CodePosterior) -> tuple[list[Any], int]:
    z, codes, loss = posterior
    mask = [] if posterior.mask is None else [posterior.mask]
    return [z, codes, loss, posterior.losses, posterior.statistics, *mask], posterior.codebook_size


def _unflattened(parts: Iterable[Any], codebook_size: int) -> CodePosterior:
    z, codes, loss, losses, statistics, *mask = parts
    return CodePosterior(z, codes, loss, losses, statistics, codebook_size, *mask)


register_pytree_node(CodePosterior, _flattened, _unflattened, serialized_type_name="narrows.bottlenecks.CodePosterior")


class SampledPosterior(Posterior):
    """q(z|x) over categorical latents that are sampled, factorised or autoregressive.

    A draw's z is the embedding of sampled codes, with a gradient to the embeddings alone: it is log q that carries the
    encoder's. An estimator makes a gradient of that, or has the codes relaxed.
    """

    @abstractmethod
    def log_prob(self, codes: Tensor) -> Tensor:
        """Log q(codes|x) in nats, [S, B], of S codes of each example, shaped [S, *`codes`.shape]."""

    @abstractmethod
    def relaxed(self, relax: Callable[[Tensor], Tensor], samples: int = 1) -> Draw:
        """Draw `samples` (S) mixtures of embeddings, with the gradient of the mixture's weights to the encoder.

        Args:
            relax: draws weights [..., K] over the K categories from their logits [..., K]; called for all latents at
                once or for one after another.
            samples: S.

        Returns:
            z, the weights times the embeddings; log_q, the weights times the log-probabilities, which is log q(z|x)
            where the weights are those of one category; log_p; rate.
        """


class Bottleneck(nn.Module, ABC):
    """Maps features [B, `features`, *grid] to a Posterior over latents z [B, `channels`, *grid]."""

    features: int
    channels: int

    @abstractmethod
    def forward(self, features: Tensor, mask: Tensor | None = None) -> Posterior:
        """Return q(z|x) for encoder features [B, `features`, *grid].

        Args:
            features: the features.
            mask: True where a position counts, bool [B, *grid]; None if all do. What the others hold, padding of any
                value, reaches no rate, log-probability, loss, statistic, gradient or codebook. Their latents and codes
                are returned, and mean nothing.

        Raises:
            NarrowsError: if the features have other channels, or the mask is not boolean or of another shape.
        """

    @abstractmethod
    def sample_prior(self, batch: int, grid: tuple[int, ...]) -> Tensor:
        """Draw z [`batch`, `channels`, *grid] from the fixed prior p(z)."""


class DiscreteBottleneck(Bottleneck):
    """A bottleneck whose latents are M = `codebooks` integer codes in [0, `codebook_size`) at each grid position."""

    codebook_size: int
    codebooks: int

    @abstractmethod
    def embed(self, codes: Tensor) -> Tensor:
        """The latents z [B, `channels`, *grid] of codes [B, *grid], or [B, *grid, M] where M > 1.

        Raises:
            NarrowsError: as `check_codes` does.
        """

    def check_codes(self, codes: Tensor) -> Tensor:
        """Return codes [B, *grid], or [B, *grid, M] where M > 1, of any integer type, as int64 [B, *grid, M].

        Raises:
            NarrowsError: if they are not integers, the last dimension is not M, or a code is outside [0, K).
        """
        if codes.is_floating_point() or codes.is_complex() or codes.dtype == torch.bool:
            raise NarrowsError(f"codes must be integers, not {codes.dtype}")
        codes = codes.long()
        if self.codebooks == 1:
            codes = codes.unsqueeze(-1)
        if codes.ndim < 2 or codes.shape[-1] != self.codebooks:
            raise NarrowsError(f"codes of {self.codebooks} codebooks must be [B, *grid, M], not {list(codes.shape)}")
        if not is_traced() and codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < self.codebook_size:
            raise NarrowsError(f"codes must be in [0, {self.codebook_size}): they are of another codebook_size")
        return codes
