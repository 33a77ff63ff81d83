"""The bottleneck of the discrete VAE: N independent categorical latents, q(z|x) = prod_n q_n(z_n|x), embedded.

E. Jang, S. Gu, B. Poole, "Categorical Reparameterization with Gumbel-Softmax" (2017), section 2. Gumbel-softmax and all
other gradient estimators of the package work on these latents; the prior is uniform.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log

import torch
from torch import Tensor, nn

from narrows.bottlenecks.codebook import lookup
from narrows.bottlenecks.mask import count_positions, hide
from narrows.bottlenecks.posterior import DiscreteBottleneck, Draw, SampledPosterior
from narrows.bottlenecks.usage import count, usage_statistics
from narrows.errors import NarrowsError

__all__ = ["Categorical", "CategoricalPosterior", "embed_codes"]


class CategoricalPosterior(SampledPosterior):
    """Independent categorical latents, M at each position; `codes` holds the most probable ones.

    The statistics are `entropy`, in nats per latent, and the `perplexity` and `usage` (share of codes in use) of the
    most probable codes, averaged over the codebooks.

    Args:
        logits: [B, *grid, M, K].
        embeddings: [M, K, dim].
        mask: True where a position counts, bool [B, *grid]; None if all do.
    """

    codes: Tensor

    def __init__(self, logits: Tensor, embeddings: Tensor, mask: Tensor | None = None) -> None:
        self.log_probs = logits.log_softmax(-1)
        self.embeddings = embeddings
        self.mask = mask
        codebooks = logits.shape[-2]
        self.latents = logits.shape[1:-1].numel()
        self.entropy = -self._counted(self.log_probs.exp() * self.log_probs).flatten(1).sum(1)
        best = logits.detach().argmax(-1)
        self.codes = best.squeeze(-1) if codebooks == 1 else best
        self.losses = {}
        self.statistics = self._statistics(best)

    def _statistics(self, best: Tensor) -> dict[str, Tensor]:
        """Return the statistics of the most probable codes [B, *grid, M]."""
        *_, codebooks, size = self.log_probs.shape
        entropy = self.entropy.detach()
        if self.mask is None:
            per_latent = entropy.mean() / self.latents
        else:
            per_latent = entropy.sum() / (self.mask.sum() * codebooks).clamp_min(1)
            best = best.masked_fill(~self.mask.unsqueeze(-1), size)
        return {"entropy": per_latent, **usage_statistics(count(best.flatten(0, -2), size))}

    def _counted(self, terms: Tensor) -> Tensor:
        """Set terms [..., B, *grid, M, *] to zero at positions that do not count."""
        return terms if self.mask is None else terms.where(self.mask[..., None, None], 0)

    @property
    def rate(self) -> Tensor:
        """KL(q(z|x) || uniform) = N log K - H(q) in nats per example, [B]."""
        return -self._log_p - self.entropy

    @property
    def mode(self) -> Tensor:
        """The embeddings of the most probable codes, [B, M * dim, *grid]."""
        return embed_codes(self.embeddings, self.codes.reshape(self.log_probs.shape[:-1]))

    def sample(self, samples: int = 1) -> Tensor:
        """Draw S = `samples` codes of each latent: [S, B, *grid], or [S, B, *grid, M] with M > 1 codebooks."""
        # Searching the cumulative sums costs K + S log K per latent; Gumbel noise would cost S K.
        cumulative = self.log_probs.detach().exp().cumsum(-1)
        # Dividing by the last value makes the sums end in exactly 1, so a category of zero probability is never drawn.
        cumulative = (cumulative / cumulative[..., -1:]).contiguous()
        uniform = torch.rand(*cumulative.shape[:-1], samples, dtype=cumulative.dtype, device=cumulative.device)
        codes = torch.searchsorted(cumulative, uniform, right=True)
        codes = codes.clamp_max(cumulative.shape[-1] - 1)  # NaN logits would index past the end
        return codes.movedim(-1, 0).reshape(samples, *self.codes.shape)

    def log_prob(self, codes: Tensor) -> Tensor:
        """Return log q(codes|x) in nats, [S, B], of codes [S, B, *grid], or [S, B, *grid, M] with M > 1 codebooks."""
        index = codes.reshape(len(codes), *self.log_probs.shape[:-1]).movedim(0, -1)
        return self._counted(self.log_probs.gather(-1, index)).flatten(1, -2).sum(1).T

    def draw(self, samples: int = 1) -> Draw:
        """Sample S codes for each latent, without gradient through the sampling."""
        codes = self.sample(samples)
        z = embed_codes(self.embeddings, codes.reshape(-1, *self.log_probs.shape[1:-1]))
        log_q = self.log_prob(codes)
        return Draw(z.unflatten(0, log_q.shape), log_q, self._log_p.expand_as(log_q), self.rate)

    def relaxed(self, relax: Callable[[Tensor], Tensor], samples: int = 1) -> Draw:
        """Mix the embeddings of each latent by the weights that `relax` draws, in one call for all latents."""
        with torch.autocast(self.log_probs.device.type, enabled=False):
            weights = relax(self.log_probs.expand(samples, *self.log_probs.shape))
            z = torch.einsum("...mk,mkd->...md", weights, self.embeddings).flatten(-2).movedim(-1, 2)
        log_q = self._counted(weights * self.log_probs).flatten(2).sum(2)
        return Draw(z, log_q, self._log_p.expand_as(log_q), self.rate)

    @property
    def _log_p(self) -> Tensor:
        *_, codebooks, size = self.log_probs.shape
        if self.mask is None:
            return torch.full_like(self.entropy, -self.latents * log(size))
        return count_positions(self.mask).to(self.entropy.dtype) * (-codebooks * log(size))


class Categorical(DiscreteBottleneck):
    """Categorical latents: the encoder's features are the logits, and the latents are the embeddings of the codes.

    Everything is computed in float32, even under autocast.

    Args:
        dim: length of an embedding.
        codebook_size: K, number of categories of a latent.
        codebooks: M, latents per position, each with its own embeddings; the features have M * K channels.

    Raises:
        NarrowsError: if a size is below 1.
    """

    def __init__(self, dim: int, codebook_size: int, codebooks: int = 1) -> None:
        super().__init__()
        for name, value in {"dim": dim, "codebook_size": codebook_size, "codebooks": codebooks}.items():
            if value < 1:
                raise NarrowsError(f"{name} must be at least 1, not {value}")
        self.features, self.channels = codebooks * codebook_size, codebooks * dim
        self.codebook_size, self.codebooks = codebook_size, codebooks
        self.embeddings = nn.Parameter(torch.randn(codebooks, codebook_size, dim))

    def forward(self, features: Tensor, mask: Tensor | None = None) -> CategoricalPosterior:
        """Return q(z|x) for logits [B, M * K, *grid]; the K channels of a codebook are adjacent.

        See `Bottleneck.forward` for the mask.

        Raises:
            NarrowsError: if the number of channels is not M * K.
        """
        if features.ndim < 2 or features.shape[1] != self.features:
            raise NarrowsError(
                f"features must be [B, {self.features}, *grid] for {self.codebooks} latent(s) of {self.codebook_size} "
                f"categories, not {list(features.shape)}: build the encoder with the bottleneck's `features`"
            )
        logits = hide(features, mask).movedim(1, -1).unflatten(-1, (self.codebooks, self.codebook_size))
        return CategoricalPosterior(logits.float(), self.embeddings.float(), mask)

    def embed(self, codes: Tensor) -> Tensor:
        """Return the latents z [B, M * `dim`, *grid] of codes [B, *grid], or [B, *grid, M] where M > 1.

        Raises:
            NarrowsError: if a code is outside [0, K), or the last dimension is not M.
        """
        return embed_codes(self.embeddings.float(), self.check_codes(codes))

    def sample_prior(self, batch: int, grid: tuple[int, ...]) -> Tensor:
        """Return the latents [`batch`, M * `dim`, *grid] of codes drawn uniformly."""
        shape = (batch, *grid, self.codebooks)
        codes = torch.randint(self.codebook_size, shape, device=self.embeddings.device)
        return embed_codes(self.embeddings.float(), codes)


def embed_codes(embeddings: Tensor, codes: Tensor) -> Tensor:
    """Return the latents [B, M * dim, *grid] of codes [B, *grid, M] with embeddings [M, K, dim]."""
    return lookup(embeddings, codes.flatten(0, -2)).view(*codes.shape[:-1], -1).movedim(-1, 1)
