"""Two-stage models: a frozen first model captures the visible content, and a very deep VAE adds the details.

"Mind Your Bits and Errors: Prioritizing the Bits that Matter in Variational Autoencoders" (2021), equations 5 and 6:
-log p(x) <= -E[log p(x|z2, x')] + KL(q(z2|x, x') || p(z2|x')) + KL(q(z1|x) || p(z1)), x' = E[x|z1] of the first model.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from narrows.bottlenecks import Draw, HierarchicalPosterior, Hierarchy, Posterior
from narrows.data import Spec
from narrows.errors import NarrowsError
from narrows.likelihoods import Likelihood, Observation
from narrows.models.autoencoder import Autoencoder, Progress, lines
from narrows.models.latent import DecoderFactory
from narrows.models.stages import SecondStage
from narrows.priors import Prior
from narrows.sampling import Sampling

__all__ = ["TwoStage", "TwoStagePosterior"]

FIRST = "first stage"
"""Group name of the first stage's terms of the rate."""


class TwoStagePosterior(Posterior):
    """q(z1|x) q(z2|x, x'), where x' is the first model's mean given z1; z is the second model's last feature map.

    The rate of a draw is that of both stages. The first stage's share has no gradient and uses its fixed prior.

    Args:
        model: both stages.
        x: the examples, [B, C, H, W] in [0, 1].
    """

    def __init__(self, model: TwoStage, x: Tensor) -> None:
        self.model, self.x = model, x
        self.losses, self.statistics = {}, {}

    @property
    def mode(self) -> Tensor:
        """The feature map of the second stage's means, given the first's reconstruction of x, [B, width, H, W]."""
        return self.model.second_posterior(self.x, self.model.first.reconstruct(self.x)).mode

    def draw(self, samples: int = 1) -> Draw:
        """Draw z1 and z2 S times per example."""
        shape = (samples, len(self.x))
        # In full precision, as in evaluation and sampling: at half precision, a code near a tie could change.
        with torch.no_grad(), torch.autocast(self.x.device.type, enabled=False):
            first = self.model.first.posterior(self.x)
            coarse = first.draw(samples)
            known = self.model.first.observe(coarse.z.flatten(0, 1)).mean
        posterior = self.model.second_posterior(self.x.expand(samples, *self.x.shape).flatten(0, 1), known)
        fine = posterior.draw()
        below = coarse.layer_rates or {("", 1): coarse.rate}
        layer_rates = {(f"{FIRST} {group}".strip(), number): rate for (group, number), rate in below.items()}
        layer_rates |= {name: rate.view(shape).mean(0) for name, rate in fine.layer_rates.items()}
        return Draw(
            fine.z.view(*shape, *fine.z.shape[2:]),
            coarse.log_q + fine.log_q.view(shape),
            coarse.log_p + fine.log_p.view(shape),
            coarse.rate + fine.rate.view(shape).mean(0),
            {**fine.statistics, "rate_first_stage": coarse.rate.mean()},
            layer_rates,
        )


class TwoStage(SecondStage):
    """A trained second stage on top of a frozen first one; together they form one model of x.

    The second stage is a very deep VAE. Its posterior reads x and x'; its latents, and therefore its mean, are
    conditioned on x' at every resolution by a separate bottom-up network. Bounds and samples are those of the pair; the
    classes are those of the first stage. If a prior was fitted to the codes of the first stage, samples use it, but the
    rate still uses the first stage's fixed prior, so the bound is looser than it could be.

    Args:
        spec: the data to model, or (C, H, W) of one example.
        encoder: makes a network from C channels to the features that the bottleneck reads. Three are made: for x and
            for x', whose sum the posterior reads (with Stem, that is one convolution of [x, x']), and for x'
            that conditions the latents.
        bottleneck: the latents of the second stage.
        decoder: makes the network from the last feature map to the channels that the likelihood reads.
        likelihood: makes the observation model of C channels.

    Raises:
        NarrowsError: if decoder(encoder(x)) does not have the size of x.
    """

    bottleneck: Hierarchy

    def __init__(
        self,
        spec: Spec | tuple[int, ...],
        encoder: Callable[[int, int], nn.Module],
        bottleneck: Hierarchy,
        decoder: DecoderFactory,
        likelihood: Callable[[int], Likelihood],
    ) -> None:
        super().__init__(spec, encoder, bottleneck, decoder, likelihood)
        self.encoder_of_known = encoder(self.shape[0], bottleneck.features)
        self.embed_known = encoder(self.shape[0], bottleneck.features)
        self.read_known = bottleneck.reader()
        self.first_stage = None
        self._to_channels_last()

    @property
    def lacks_prior(self) -> bool:
        """Whether the first stage has discrete codes but no prior for them."""
        return self.first.lacks_prior

    @property
    def sampled_prior(self) -> Prior | None:
        """The learned prior of the first stage."""
        return self.first.sampled_prior

    def attach_to(self, first: Autoencoder) -> None:
        """Set `first` as the first stage, freeze it in eval mode, and use its classes.

        Raises:
            NarrowsError: if it models examples of another shape.
        """
        if first.shape != self.shape:
            raise NarrowsError(
                f"the first stage models images of {'x'.join(map(str, first.shape))} (channels first), these are "
                f"{'x'.join(map(str, self.shape))}: both stages see the same images; set data.size and data.channels"
            )
        super().attach_to(first)
        self.classes = first.classes

    def posterior(self, x: Tensor, mask: Tensor | None = None) -> TwoStagePosterior:
        """Return q(z1|x) q(z2|x, x') of x [B, C, H, W], in which all positions count.

        Raises:
            NarrowsError: if a mask is given.
        """
        if mask is not None:
            raise NarrowsError("a two-stage model does not support masks: leave the mask out")
        return TwoStagePosterior(self, x)

    def second_posterior(self, x: Tensor, known: Tensor) -> HierarchicalPosterior:
        """Return q(z2|x, x') of x and x' = `known`, both [B, C, H, W] in [0, 1]."""
        return self._second_posterior(self.features(x), known)

    def generate(
        self,
        n: int,
        condition: Tensor | None = None,
        sampling: Sampling | None = None,
        progress: Progress | None = None,
    ) -> Observation:
        """Return p(x|z2, x') for n samples x' of the first stage, drawn with these arguments, and one z2 for each."""
        return self.refine(self.first.sample(n, condition, sampling, progress=progress))

    @torch.no_grad()
    def refine(self, known: Tensor) -> Observation:
        """Return p(x|z2, x') for x' = `known` [B, C, H, W], with z2 drawn from the prior given x'."""
        return self.observe(self.bottleneck.sample_prior(len(known), self.grid, self._context(known)))

    @torch.no_grad()
    def interpolate(
        self,
        start: Tensor,
        end: Tensor,
        steps: int,
        condition: Tensor | None = None,
        sampling: Sampling | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Decode `steps` (T) points between two batches, interpolating the first stage and the features of both."""
        known = self.first.interpolate(start, end, steps, condition, sampling, progress)
        features = lines(self.features(start), self.features(end), steps)
        posterior = self._second_posterior(features.flatten(0, 1), known.flatten(0, 1))
        return self.observe(posterior.mode).mean.unflatten(0, known.shape[:2])

    def _second_posterior(self, features: Tensor, known: Tensor) -> HierarchicalPosterior:
        return self.bottleneck(features + self.encoder_of_known(2 * known - 1), context=self._context(known))

    def _context(self, known: Tensor) -> dict[int, Tensor]:
        return self.read_known(self.embed_known(2 * known - 1), self.bottleneck.run)
