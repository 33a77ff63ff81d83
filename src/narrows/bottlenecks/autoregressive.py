"""Autoregressive categorical latents, q(z|x) = prod_n q(z_n|z_<n, x), sampled one by one by a transformer that reads x.

M. Drolet, F. Al-Hafez, A. Bhatt, J. Peters, O. Arenz, "Discrete Variational Autoencoding via Policy Search", where the
encoder is a policy; the prior is uniform.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from math import log, prod

import torch
from torch import Tensor, nn

from narrows.bottlenecks.blocks import Blocks
from narrows.bottlenecks.categorical import embed_codes
from narrows.bottlenecks.mask import hide
from narrows.bottlenecks.posterior import DiscreteBottleneck, Draw, SampledPosterior
from narrows.bottlenecks.usage import count, usage_statistics
from narrows.errors import NarrowsError
from narrows.networks.codes import CodeTransformer

__all__ = ["Autoregressive", "AutoregressivePosterior", "pick"]


class AutoregressivePosterior(SampledPosterior):
    """Categorical latents in row-major order, M at each position, each conditioned on those before it.

    The rate has no closed form. The rate of a draw is the mean over its samples of sum_n KL(q(z_n|z_<n, x) || uniform),
    an unbiased estimate. The `codes` are greedy: each is the most probable given those before it. They are computed at
    first access. The statistics of a draw are the `entropy` of the conditionals, in nats per latent, and the
    `perplexity` and `usage` (share of codes in use) of the codes, averaged over the codebooks.

    Args:
        writer: the network that generates the codes.
        features: the input of `writer`, [B, W, *grid].
        embeddings: [M, K, dim].
        mask: True where a position counts, bool [B, *grid]; None if all do. No code attends to the features of masked
            positions, and the codes there are always 0.
        block: number of positions of the grid's first axis that depend on each other; None for all.
    """

    def __init__(
        self,
        writer: CodeTransformer,
        features: Tensor,
        embeddings: Tensor,
        mask: Tensor | None = None,
        block: int | None = None,
    ) -> None:
        self.blocks = Blocks(tuple(features.shape[2:]), block)
        self.writer = writer
        self.embeddings = embeddings
        self.batch, self.grid = len(features), self.blocks.grid
        self.codebooks, self.codebook_size, _ = embeddings.shape
        self.latents = prod(self.blocks.within) * self.codebooks
        mask = self.blocks.mask(mask, features)
        self.memory = writer.read(self.blocks.split(features, 2), mask)
        self.kept = None if mask is None else mask.flatten(1).repeat_interleave(self.codebooks, 1)
        self.losses = {}
        self.statistics = {}

    @cached_property
    def codes(self) -> Tensor:  # type: ignore[override]
        """The greedy codes, [B, *grid], or [B, *grid, M] with M > 1 codebooks."""
        choose = self._keeping(lambda logits: logits.argmax(-1))
        return self._shaped(self.writer.write(self.memory, self.blocks.within, 1, choose)).squeeze(0)

    @property
    def mode(self) -> Tensor:
        """The embeddings of the greedy codes, [B, M * dim, *grid]."""
        return embed_codes(self.embeddings, self.codes.reshape(-1, *self.grid, self.codebooks))

    def sample(self, samples: int = 1) -> Tensor:
        """Draw S = `samples` sequences of codes: [S, B, *grid], or [S, B, *grid, M] with M > 1 codebooks."""
        shape = (self.latents, self.batch * self.blocks.count, samples, 1)
        uniforms = iter(torch.rand(shape, dtype=self.embeddings.dtype, device=self.embeddings.device))
        choose = self._keeping(lambda logits: pick(logits, next(uniforms)))
        return self._shaped(self.writer.write(self.memory, self.blocks.within, samples, choose))

    def log_prob(self, codes: Tensor) -> Tensor:
        """Return log q(codes|x) in nats, [S, B], of codes [S, B, *grid], or [S, B, *grid, M] with M > 1 codebooks."""
        return self._followed(codes)[0]

    def draw(self, samples: int = 1) -> Draw:
        """Sample S sequences of codes for each example, without gradient through the sampling."""
        codes = self.sample(samples)
        z = embed_codes(self.embeddings, codes.reshape(-1, *self.grid, self.codebooks))
        log_q, log_probs = self._followed(codes)
        return self._draw(z.unflatten(0, log_q.shape), log_q, log_probs, codes)

    def relaxed(self, relax: Callable[[Tensor], Tensor], samples: int = 1) -> Draw:
        """Mix the embeddings of each latent in turn by the weights that `relax` draws, [B, S, K] at a time.

        Later latents read mixtures instead of codes, so the log-probabilities and the rate depend on the mixtures.
        """
        conditionals: list[Tensor] = []

        def weigh(logits: Tensor) -> Tensor:
            conditionals.append(logits.log_softmax(-1))
            return relax(conditionals[-1])

        weights = self.writer.mix(self.memory, self.blocks.within, samples, self._keeping(weigh))
        log_probs = torch.stack(conditionals, 2)
        by_position = weights.transpose(0, 1).unflatten(2, (*self.blocks.within, self.codebooks))
        by_position = self.blocks.join(by_position, 1)
        with torch.autocast(weights.device.type, enabled=False):
            z = torch.einsum("...mk,mkd->...md", by_position, self.embeddings).flatten(-2).movedim(-1, 2)
        log_q = self._summed(self._counted(weights * log_probs).sum((2, 3))).T
        return self._draw(z, log_q, log_probs, by_position.argmax(-1))

    def _followed(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Return log q(codes|x), [S, B], and the conditionals log q(.|z_<n, x) that it sums, [B, S, N, K]."""
        sequences = self._sequences(codes).transpose(0, 1)
        if self.kept is not None:
            sequences = sequences.where(self.kept.unsqueeze(1), 0)
        log_probs = self.writer(sequences, self.memory, self.blocks.within).log_softmax(-1)
        log_q = self._summed(self._counted(log_probs.gather(-1, sequences.unsqueeze(-1))).sum((2, 3)))
        return log_q.T, log_probs

    def _summed(self, terms: Tensor) -> Tensor:
        """Sum terms of blocks, [B * J, ...], to those of examples, [B, ...]."""
        return terms.unflatten(0, (self.batch, self.blocks.count)).sum(1)

    def _sequences(self, codes: Tensor) -> Tensor:
        """Return the sequences of codes [S, B, *grid], or [S, B, *grid, M], in blocks: [S, B * J, n]."""
        return self.blocks.split(codes, 2, 1).reshape(len(codes), -1, self.latents)

    def _keeping(self, choose: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """Wrap `choose`, called once per latent, to return code 0 (or all weight on it) at masked positions."""
        if self.kept is None:
            return choose
        by_latent = iter(self.kept.T.unsqueeze(2))

        def keeping(logits: Tensor) -> Tensor:
            chosen, kept = choose(logits), next(by_latent)
            if not chosen.is_floating_point():
                return chosen.where(kept, 0)
            return chosen.where(kept.unsqueeze(2), torch.arange(self.codebook_size, device=kept.device) == 0)

        return keeping

    def _counted(self, terms: Tensor) -> Tensor:
        """Set terms [B, S, N, *] to zero for latents that do not count."""
        return terms if self.kept is None else terms.where(self.kept[:, None, :, None], 0)

    def _draw(self, z: Tensor, log_q: Tensor, log_probs: Tensor, codes: Tensor) -> Draw:
        """Return the draw, with its rate and statistics computed from log q(.|z_<n, x) [B, S, N, K]."""
        entropy = self._summed(-self._counted(log_probs.exp() * log_probs).sum((2, 3)).mean(1))
        sequences = self._sequences(codes)
        if self.kept is None:
            latents = self.blocks.count * self.latents
            uniform = torch.full_like(log_q[0], latents * log(self.codebook_size))
            per_latent = entropy.detach().mean() / latents
        else:
            uniform = self._summed(self.kept.sum(1)).to(log_q.dtype) * log(self.codebook_size)
            per_latent = entropy.detach().sum() / self.kept.sum().clamp_min(1)
            sequences = sequences.where(self.kept, self.codebook_size)
        used = count(sequences.reshape(-1, self.codebooks), self.codebook_size)
        statistics = {"entropy": per_latent, **usage_statistics(used)}
        return Draw(z, log_q, -uniform.expand_as(log_q), uniform - entropy, statistics)

    def _shaped(self, codes: Tensor) -> Tensor:
        """Reshape the codes of blocks, [B * J, S, n], to [S, B, *grid], or [S, B, *grid, M] with M > 1 codebooks."""
        within = self.blocks.within
        shape = within if self.codebooks == 1 else (*within, self.codebooks)
        return self.blocks.join(codes.transpose(0, 1).reshape(codes.shape[1], codes.shape[0], *shape), 1)


class Autoregressive(DiscreteBottleneck):
    """Categorical latents generated by a causal transformer that attends to the encoder's features.

    The log-probabilities, the rate and the latents are computed in float32, even under autocast.

    Args:
        dim: length of a code's embedding, as the decoder reads it.
        codebook_size: K, number of categories of a latent.
        codebooks: M, latents per position, each with its own embeddings.
        width: channels of the features and of the transformer.
        layers: number of transformer blocks.
        heads: attention heads per block of the transformer; must divide `width`.
        block: number of positions of the grid's first axis whose codes are written together. A longer grid is written
            in blocks of that many, independent of each other given the features, so that a model trained on windows of
            one block encodes data of any length. None writes any grid as a whole.

    Raises:
        NarrowsError: if a size is below 1, or `heads` does not divide `width`.
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        codebooks: int = 1,
        width: int = 128,
        layers: int = 2,
        heads: int = 4,
        block: int | None = None,
    ) -> None:
        super().__init__()
        sizes = {"dim": dim, "codebook_size": codebook_size, "codebooks": codebooks, "block": block}
        for name, value in sizes.items():
            if value is not None and value < 1:
                raise NarrowsError(f"{name} must be at least 1, not {value}")
        self.block = block
        self.features, self.channels = width, codebooks * dim
        self.codebook_size, self.codebooks = codebook_size, codebooks
        self.embeddings = nn.Parameter(torch.randn(codebooks, codebook_size, dim))
        self.writer = CodeTransformer(codebooks, codebook_size, width, layers, heads)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> AutoregressivePosterior:
        """Return q(z|x) for features [B, `width`, *grid]; see `Bottleneck.forward`.

        Raises:
            NarrowsError: if the number of channels is not `width`.
        """
        if features.ndim < 2 or features.shape[1] != self.features:
            raise NarrowsError(
                f"features must be [B, {self.features}, *grid] for a transformer of that width, not "
                f"{list(features.shape)}: build the encoder with the bottleneck's `features`"
            )
        return AutoregressivePosterior(self.writer, hide(features, mask), self.embeddings, mask, self.block)

    def embed(self, codes: Tensor) -> Tensor:
        """Return the latents z [B, M * `dim`, *grid] of codes [B, *grid], or [B, *grid, M] where M > 1.

        Raises:
            NarrowsError: if a code is outside [0, K), or the last dimension is not M.
        """
        return embed_codes(self.embeddings, self.check_codes(codes))

    def sample_prior(self, batch: int, grid: tuple[int, ...]) -> Tensor:
        """Return the latents [`batch`, M * `dim`, *grid] of codes drawn uniformly."""
        codes = torch.randint(self.codebook_size, (batch, *grid, self.codebooks), device=self.embeddings.device)
        return embed_codes(self.embeddings, codes)


def pick(logits: Tensor, uniform: Tensor) -> Tensor:
    """Return the codes [...] at which the cumulative probability of logits [..., K] exceeds `uniform` [..., 1]."""
    cumulative = logits.softmax(-1).cumsum(-1)
    # Dividing by the last value makes the sums end in exactly 1, so a category of zero probability is never drawn.
    codes = torch.searchsorted(cumulative / cumulative[..., -1:], uniform, right=True).squeeze(-1)
    return codes.clamp_max(logits.shape[-1] - 1)  # NaN logits would index past the end
