"""Stacked models: a second autoencoder upon the codes of a frozen first one, with global latents.

A. van den Oord, O. Vinyals, K. Kavukcuoglu, "Neural Discrete Representation Learning", section 4.2, figure 5.
-log p(x) <= -log p(x|codes) - log p(codes|z) + KL(q(z|codes) || p(z)), with the codes that the first model gives x.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import log
from typing import ClassVar, NamedTuple, NoReturn, cast

import torch
from torch import Tensor, nn

from narrows.bottlenecks import Bottleneck, Draw, Posterior
from narrows.bottlenecks.mask import count_positions, hide
from narrows.data import Batch, Spec
from narrows.errors import NarrowsError
from narrows.estimators import Evidence
from narrows.likelihoods import Likelihood
from narrows.models.autoencoder import Autoencoder, Progress
from narrows.models.same_data import require_same_data
from narrows.models.stages import SecondStage
from narrows.priors import CodeSpec, Condition, Prior, sample
from narrows.sampling import Sampling

__all__ = ["Coded", "Stacked"]

DRAWS = 3
"""Number of draws from one latent in a report."""
Network = Callable[[int, int, list[int]], nn.Module]
"""Makes a network from the channels in and out and the size of a window's code grid, such as [21, 21]."""


class Coded(NamedTuple):
    """The codes that the first model gives B examples of W windows each, the most probable ones."""

    z: Tensor
    """The first model's latents of these codes, [B, channels, *grid]."""
    codes: Tensor
    """int64 [B W, *window], or [B W, *window, M] with M > 1 codes per position."""
    mask: Tensor | None
    """True for the positions that count, bool [B W, *window]; None if all do."""
    counts: Tensor
    """Number of codes of each example that count, int64 [B]."""


class Stacked(SecondStage):
    """A model of the codes of a frozen discrete model; together they form one model of x.

    An encoder reads the embedded codes, and the bottleneck gives the global latents z. A network makes features of
    every position of the code grid from z, and these condition p(codes|z), a learned prior. Decoding draws codes from
    it, one after another, and decodes them by the first model, so two reconstructions from one z differ.

    Examples of variable length are cut into windows as long as those in training. Each window of codes has its own
    global latents and is independent of the others given these; the grid of the latents is thus that of the windows,
    (W,), and (1,) for examples of a fixed size. Without a learned prior, samples draw z from the fixed one.

    The log-likelihood is log p(codes|z) + log p(x|codes) <= log p(x|z). Only the first term has a gradient.

    Args:
        spec: the data to model, or (C, *size) of one example.
        encoder: makes the network from embedded codes [B, `embedding`, *window] to the bottleneck's features
            [B, features].
        bottleneck: the global latents of a window.
        context: makes the network from latents [B, channels] to features [B, `channels`, *window].
        decoder: makes p(codes|z), a prior conditioned on the features of each position.
        embedding: channels of an embedded code.
        channels: features of each position.

    Raises:
        NarrowsError: if `embedding` or `channels` is below 1.
    """

    shares_data: ClassVar[bool] = True

    def __init__(
        self,
        spec: Spec | tuple[int, ...],
        encoder: Network,
        bottleneck: Bottleneck,
        context: Network,
        decoder: Callable[[CodeSpec], Prior],
        embedding: int = 64,
        channels: int = 64,
    ) -> None:
        # The networks depend on the first model's codes, so `attach_to` makes them, not the constructor of Autoencoder.
        nn.Module.__init__(self)
        if min(embedding, channels) < 1:
            raise NarrowsError(f"embedding is {embedding} and channels {channels}: both must be at least 1")
        self._spec = spec if isinstance(spec, Spec) else Spec(tuple(spec))
        self.shape = self._spec.shape
        self.classes = list(self._spec.classes)
        self.conditional = False
        self.grid = (1,)
        self.bottleneck = bottleneck
        self.prior: Prior | None = None
        self.first_stage = None
        self._factories = encoder, context, decoder
        self._widths = embedding, channels

    def attach_to(self, first: Autoencoder) -> None:
        """Set `first` as the first model, freeze it in eval mode, and make the networks for its codes.

        Raises:
            NarrowsError: if its latents are continuous, or it models other data.
        """
        if not first.discrete:
            raise NarrowsError(
                f"the latents of the first stage, of a {type(first.bottleneck).__name__}, are continuous, so it has no "
                "codes to model: train it with a discrete bottleneck, such as VectorQuantizer"
            )
        require_same_data(first, self._spec)
        super().attach_to(first)
        self.classes, self.conditional = list(first.classes), first.conditional
        grid = (self.shape[1] // first.hop, *first.grid[1:]) if self.variable else first.grid
        codes = first.codes_of(grid)
        encoder, context, decoder = self._factories
        embedding, channels = self._widths
        self.embeddings = nn.ModuleList(nn.Embedding(codes.codebook_size, embedding) for _ in range(codes.codebooks))
        self.encoder = encoder(embedding, self.bottleneck.features, list(grid))
        self.context = context(self.bottleneck.channels, channels, list(grid))
        self.decoder = decoder(replace(codes, classes=0, channels=channels))
        self._to_channels_last()

    @property
    def codes_given_latents(self) -> Prior:
        """p(codes|z), the decoder."""
        return cast(Prior, self.decoder)

    @property
    def likelihood(self) -> Likelihood:  # type: ignore[override]
        """The observation model of the first model."""
        return self.first.likelihood

    @property
    def hop(self) -> int:
        """Number of positions of the first axis per window of codes; 1 if examples have a fixed size."""
        return self.shape[1] if self.variable else 1

    @property
    def sampled_length(self) -> int:
        """Length of the first axis of the examples that `sample` draws; 1 if examples have a fixed size."""
        return self.hop * (self.grid if self.prior is None else self.prior.grid)[0]

    @property
    def autoregressive(self) -> bool:
        """True, because codes are drawn one after another."""
        return True

    @property
    def lacks_prior(self) -> bool:
        """False, because the fixed prior of global latents will do."""
        return False

    def codes_of(self, grid: tuple[int, ...]) -> CodeSpec:
        """Return the specification of codes on another grid: of W windows, (W,); these have no features of their own.

        Raises:
            NarrowsError: if the latents are continuous.
        """
        return replace(super().codes_of(grid), channels=0)

    @torch.no_grad()
    def coded(self, x: Tensor, mask: Tensor | None = None) -> Coded:
        """Return the codes that the first model gives x [B, C, *size], in full precision even under autocast."""
        batch = self.filled(Batch(x, mask))
        with torch.autocast(x.device.type, enabled=False):
            posterior = self.first.posterior(batch.x, batch.mask)
        codes = posterior.codes
        assert codes is not None
        prior = self.codes_given_latents
        counted = self.first.latent_mask(batch.mask, tuple(codes.shape[1 : 1 + len(prior.grid)]))
        if counted is None:
            counts = codes.new_full((len(x),), codes[0].numel())
        else:
            counts = count_positions(counted) * prior.codebooks
        mask = None if counted is None else self._in_windows(counted)
        return Coded(posterior.mode, self._in_windows(codes), mask, counts)

    def features(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the encoder's features [B, features, W] of the codes of x [B, C, *size]."""
        return self._features(self.coded(x, mask))

    def posterior(self, x: Tensor, mask: Tensor | None = None) -> Posterior:
        """Return q(z|x) of x [B, C, *size], in which only positions where `mask` is True count."""
        batch = self.filled(Batch(x, mask))
        return self._posterior(self.coded(batch.x, batch.mask), batch.mask)

    def codes_log_prob(self, coded: Coded, z: Tensor) -> Tensor:
        """Return log p(codes|z) in nats, [S, B], of S latents per example, z [S, B, channels, W]."""
        codes = coded.codes.repeat(len(z), *[1] * (coded.codes.ndim - 1))
        mask = None if coded.mask is None else coded.mask.repeat(len(z), *[1] * (coded.mask.ndim - 1))
        nats = self.codes_given_latents.log_prob(codes, self._condition(z.flatten(0, 1)), mask)
        return nats.view(*z.shape[:2], -1).sum(2)

    def evidence(self, batch: Batch, draw: Callable[[Posterior], Draw]) -> tuple[Posterior, Evidence]:
        """Return q(z|x) of a batch and the log-probabilities of the S latents per example that `draw` draws.

        The terms of the log-likelihood are `codes`, log p(codes|z), and `data_given_codes`, log p(x|codes), which has
        no gradient. The statistic `bits_per_code` is the mean of -log2 p(codes|z) over the first model's codes.
        """
        filled = self.filled(batch)
        coded = self.coded(filled.x, filled.mask)
        read = coded if batch.damaged is None else self.coded(batch.damaged, batch.mask)
        posterior = self._posterior(read, filled.mask)
        z, log_q, log_p, rate, statistics, layer_rates, _ = draw(posterior)
        of_codes, given_codes = self.codes_log_prob(coded, z), self._data_log_prob(coded, filled)
        terms = {"codes": of_codes.detach(), "data_given_codes": given_codes.expand_as(of_codes)}
        bits = -terms["codes"].mean(0).sum() / (coded.counts.sum() * log(2))
        evidence = Evidence(
            of_codes + given_codes,
            log_q,
            log_p,
            rate,
            filled.x,
            None,
            {**statistics, "bits_per_code": bits},
            layer_rates,
            filled.mask,
            terms,
        )
        return posterior, evidence

    def log_likelihood(self, batch: Batch, z: Tensor) -> Tensor:
        """Return log p(codes|z) + log p(x|codes) in nats, [S, B], of S latents per example, z [S, B, channels, W]."""
        filled = self.filled(batch)
        coded = self.coded(filled.x, filled.mask)
        return self.codes_log_prob(coded, z) + self._data_log_prob(coded, filled)

    def ratios(self, batch: Batch, posterior: Posterior, others: Tensor | None) -> dict[str, tuple[Tensor, Tensor]]:
        """Return the cost of the first model's codes with their own latents, and with those of other examples.

        Args:
            batch: B examples.
            posterior: q(z|x) of these examples; the latents are its mode.
            others: latents of earlier examples, [B', channels, W'], for a batch of one; None for none.

        Returns:
            the bits and the number of codes, scalars, of `bits_per_code`, -log2 p(codes|z), and of
            `bits_per_code_swapped`, the same with the latents of another example, if there is another.
        """
        filled = self.filled(batch)
        coded, z = self.coded(filled.x, filled.mask), posterior.mode
        given = {"bits_per_code": z}
        if len(z) > 1:
            given["bits_per_code_swapped"] = z.roll(len(z) // 2, 0)
        elif others is not None:
            windows = torch.arange(z.shape[2], device=z.device) % others.shape[2]
            given["bits_per_code_swapped"] = others[:1, :, windows]
        count = coded.counts.sum()
        return {name: (-self.codes_log_prob(coded, own[None]).sum() / log(2), count) for name, own in given.items()}

    @torch.no_grad()
    def decode_latents(
        self,
        z: Tensor,
        condition: Tensor | None = None,
        sampling: Sampling | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Return data [B, C, *size] decoded by the first model from codes drawn from p(codes|z).

        Args:
            z: the latents, [B, channels, W].
            condition: the class of each example, int64 [B], for a first decoder conditioned on it.
            sampling: how the codes are drawn, and the data if the first decoder is autoregressive.
            progress: called with the number of positions drawn and the total.
        """
        sampling = _continued(sampling)
        codes = self._draw(z.transpose(1, 2).flatten(0, 1), sampling, z.shape[2], progress)
        return self.first.decode(codes.unflatten(0, (len(z), -1)).flatten(1, 2), condition, sampling)

    @torch.no_grad()
    def versions(self, x: Tensor) -> dict[str, Tensor]:
        """Return the first model's reconstruction of x and several draws from the global latents, by name."""
        z, sampling = self.posterior(self.check_data(x)).mode, _continued(Sampling(seed=0))
        draws = [self.decode_latents(z, sampling=sampling)[:, :, : x.shape[2]] for _ in range(DRAWS)]
        return {"first stage": self.first.reconstruct(x), **{f"draw {n}": own for n, own in enumerate(draws, 1)}}

    def decode_all(
        self,
        codes: Sequence[Tensor],
        condition: Tensor | None = None,
        sampling: Sampling | None = None,
        progress: Progress | None = None,
    ) -> list[Tensor]:
        """Return data [C, *size] for each of several codes; the windows of all examples are drawn at once."""
        if not codes:
            return []
        sampling, windows = _continued(sampling), [self._embed(part.unsqueeze(0))[0].t() for part in codes]
        drawn = self._draw(torch.cat(windows), sampling, max(map(len, windows)), progress)
        below = [part.flatten(0, 1) for part in drawn.split([len(part) for part in windows])]
        return self.first.decode_all(below, condition, sampling)

    def _draw(self, z: Tensor, sampling: Sampling, longest: int, progress: Progress | None) -> Tensor:
        """Draw the codes of windows with latents z [n, channels]: int64 [n, *window] or [n, *window, M].

        Progress is counted in positions of the longest example, which has `longest` windows.
        """
        positions = longest * self.hop

        def advance(done: int, total: int) -> None:
            if progress is not None:
                progress(positions * done // total, positions)

        weight = next(self.context.parameters())
        with torch.no_grad(), torch.autocast(weight.device.type, enabled=False):
            given = Condition(features=self.context(z.to(weight)))
        return sample(self.codes_given_latents, len(z), given, sampling, progress=advance)

    def _in_windows(self, part: Tensor) -> Tensor:
        return part.unflatten(1, (-1, self.codes_given_latents.grid[0])).flatten(0, 1)

    def _condition(self, z: Tensor) -> Condition:
        """Return the condition of the codes of windows for latents z [B, channels, W]."""
        return Condition(features=self.context(z.transpose(1, 2).flatten(0, 1)))

    def _features(self, coded: Coded) -> Tensor:
        prior = self.codes_given_latents
        codes = coded.codes.unsqueeze(-1) if prior.codebooks == 1 else coded.codes
        embedded = torch.stack([table(code) for table, code in zip(self.embeddings, codes.unbind(-1), strict=True)])
        features = self.encoder(hide(embedded.sum(0).movedim(-1, 1), coded.mask))
        return features.unflatten(0, (len(coded.counts), -1)).transpose(1, 2)

    def _posterior(self, read: Coded, mask: Tensor | None) -> Posterior:
        features = self._features(read)
        counted = None if mask is None else mask.unflatten(1, (features.shape[2], -1)).flatten(2).any(2)
        return self.bottleneck(features, counted)

    @torch.no_grad()
    def _data_log_prob(self, coded: Coded, batch: Batch) -> Tensor:
        """Return log p(x|codes) of the first model in nats, [B], in full precision even under autocast."""
        with torch.autocast(batch.x.device.type, enabled=False):
            return self.first.log_likelihood(batch, coded.z.unsqueeze(0))[0]

    def _observe(self, z: Tensor, x: Tensor | None, condition: Tensor | None, mask: Tensor | None = None) -> NoReturn:
        raise NarrowsError(
            "a stacked model draws the codes of its first stage instead of describing all data at once: use decode(), "
            "sample() or log_likelihood()"
        )


def _continued(sampling: Sampling | None) -> Sampling:
    """Return the same sampling with one generator, so that a second draw continues with its random numbers."""
    return Sampling() if sampling is None else replace(sampling, seed=sampling.generator)
