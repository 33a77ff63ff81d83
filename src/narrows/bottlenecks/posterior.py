"""The output of every bottleneck: q(z|x) of a batch, and the fixed prior p(z) that its rate is measured against."""

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
"""Empty mapping of names to tensors."""


class Draw(NamedTuple):
    """S latents of each of B examples, with their log-probabilities in nats."""

    z: Tensor
    """Input of the decoder, [S, B, C, *grid]."""
    log_q: Tensor
    """log q(z|x), [S, B]."""
    log_p: Tensor
    """log p(z) under the fixed prior, [S, B]."""
    rate: Tensor
    """KL(q(z|x) || p(z)) in nats, [B]: exact if it has a closed form, otherwise estimated from the drawn latents."""
    statistics: Mapping[str, Tensor] = NOTHING
    """Figures of these latents for the log, by name: scalars without gradient."""
    layer_rates: Mapping[tuple[str, int], Tensor] = NOTHING
    """Terms whose sum is the rate, from the first latents to the last, by (group, number within the group): nats per
    example, [B], without gradient; {} if the rate has no terms."""
    learnt: int | None = None
    """The number of the first samples that the decoder learns from; None for all."""


class Posterior(ABC):
    """q(z|x) for a batch of B examples.

    Attributes:
        codes: integer codes [B, *grid], or [B, *grid, M] with M codes per position; None if the latents are continuous.
        losses: the bottleneck's own training losses by name, scalars that include their weights.
        statistics: figures for the log that are known before any draw, by name: scalars without gradient.
    """

    codes: Tensor | None = None
    losses: dict[str, Tensor]
    statistics: dict[str, Tensor]

    @property
    @abstractmethod
    def mode(self) -> Tensor:
        """The most probable latent, [B, C, *grid], from which a reconstruction is decoded."""

    @abstractmethod
    def draw(self, samples: int = 1) -> Draw:
        """Draw `samples` latents (S) per example; z carries the pathwise gradient if there is one."""


class _Quantised(NamedTuple):
    z: Tensor
    codes: Tensor
    loss: Tensor


class CodePosterior(_Quantised, Posterior):  # type: ignore[misc]
    """A posterior with all its mass on one code per latent: the tuple (z, codes, loss), with further attributes.

    It is registered as a pytree and is also a named tuple, so that parallel wrappers and hooks see its tensors.

    Attributes:
        z: the latents, [B, C, *grid], with the straight-through gradient to the features.
        codes: [B, *grid], or [B, *grid, M] with M > 1 codebooks.
        loss: the sum of the losses, a scalar.
        losses: "commitment", and "codebook" if the codebook is learnt by its loss.
        statistics: "perplexity" and "usage" (share of codes in use) of the batch, averaged over the codebooks. They are
            those of the global batch while the codebook learns, otherwise of this process; "nonfinite" is the number of
            its tokens that are NaN or infinite.
        codebook_size: K.
        mask: True where a position counts, bool [B, *grid]; None if all do.

    Args:
        z: the latents.
        codes: their codes.
        loss: the sum of the losses; None computes it.
        losses: by name; None if only their sum is known.
        statistics: by name.
        codebook_size: K; 0 if unknown, as in a copy that a wrapper made of the tuple alone.
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
        """Create the tuple and set the other arguments as attributes."""
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

    # DataParallel looks for a named tuple's fields; with a tuple here, PyTorch's pytree would keep nothing else.
    _fields: ClassVar[list[str]] = ["z", "codes", "loss"]  # type: ignore[assignment,misc]

    @classmethod
    def _make(cls, parts: Iterable[Tensor]) -> CodePosterior:  # type: ignore[override]
        """Return the posterior of a bare tuple (z, codes, loss)."""
        z, codes, loss = parts
        return cls(z, codes, loss)

    def _replace(self, **changes: Any) -> CodePosterior:
        """Return a copy with some elements of the tuple replaced."""
        return CodePosterior(
            **{**self._asdict(), **changes},
            losses=self.losses,
            statistics=self.statistics,
            codebook_size=self.codebook_size,
            mask=self.mask,
        )

    @property
    def rate(self) -> Tensor:
        """N log K in nats per example under the uniform prior, [B], for the N latents that count."""
        batch, *latents = self.codes.shape
        if not self.codebook_size:
            raise NarrowsError("codebook_size is unknown in a copy of the bare tuple (z, codes, loss): it has no rate")
        if self.mask is not None:
            codebooks = self.codes.shape[self.mask.ndim :].numel()
            return count_positions(self.mask).float() * (codebooks * log(self.codebook_size))
        return self.z.new_full((batch,), torch.Size(latents).numel() * log(self.codebook_size), dtype=torch.float32)

    @property
    def mode(self) -> Tensor:
        """The only latent of each example, [B, C, *grid]."""
        return self.z

    def draw(self, samples: int = 1) -> Draw:
        """Return the one latent, repeated `samples` times: log q = 0, log p = -N log K."""
        log_p = -self.rate.expand(samples, -1)
        return Draw(self.z.expand(samples, *self.z.shape), torch.zeros_like(log_p), log_p, self.rate)


def require_floats(features: Tensor) -> None:
    """Check that features are floating point; another type would round the latents.

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

    The z of a draw is the embedding of sampled codes, whose gradient reaches only the embeddings; log q carries the
    encoder's gradient. An estimator derives a gradient from log q, or draws relaxed codes.
    """

    @abstractmethod
    def log_prob(self, codes: Tensor) -> Tensor:
        """Return log q(codes|x) in nats, [S, B], of S codes per example, with shape [S, *`codes`.shape]."""

    @abstractmethod
    def relaxed(self, relax: Callable[[Tensor], Tensor], samples: int = 1) -> Draw:
        """Draw `samples` (S) mixtures of embeddings; the encoder's gradient flows through the mixture weights.

        Args:
            relax: draws weights [..., K] over the K categories from their logits [..., K]; called once for all latents,
                or for one after another.
            samples: S.

        Returns:
            z, the weights times the embeddings; log_q, the weights times the log-probabilities, equal to log q(z|x) if
            all weight is on one category; log_p; rate.
        """


class Bottleneck(nn.Module, ABC):
    """Maps features [B, `features`, *grid] to a Posterior over latents z [B, `channels`, *grid]."""

    features: int
    channels: int

    @abstractmethod
    def forward(self, features: Tensor, mask: Tensor | None = None) -> Posterior:
        """Return q(z|x) for encoder features [B, `features`, *grid].

        Args:
            features: encoder features.
            mask: True where a position counts, bool [B, *grid]; None if all do. Masked values, such as padding, affect
                no rate, log-probability, loss, statistic, gradient or codebook. The latents and codes there are
                returned but have no meaning.

        Raises:
            NarrowsError: if the features have other channels, or the mask is not boolean or has another shape.
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
        """Return the latents z [B, `channels`, *grid] of codes [B, *grid], or [B, *grid, M] where M > 1.

        Raises:
            NarrowsError: as `check_codes` does.
        """

    def check_codes(self, codes: Tensor) -> Tensor:
        """Return integer codes [B, *grid], or [B, *grid, M] where M > 1, as int64 [B, *grid, M].

        Raises:
            NarrowsError: if the codes are not integers, the last dimension is not M, or a code is outside [0, K).
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
