"""The very deep VAE's latents: q(z|x) = prod_l q(z_l|z_<l, x) against p(z) = prod_l p(z_l|z_<l), from coarse to fine.

R. Child, "Very Deep VAEs Generalize Autoregressive Models and Can Outperform Them on Images" (2021), with posterior and
prior merged by precision: C. K. Sønderby et al., "Ladder Variational Autoencoders" (2016).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from math import log, pi, sqrt
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from narrows.bottlenecks.gaussian import LOG_VARIANCE_LIMIT
from narrows.bottlenecks.posterior import Bottleneck, Draw, Posterior
from narrows.errors import NarrowsError
from narrows.networks.hierarchy import BottomUp, Branch, ResidualBranch, Upsample, convolution

__all__ = ["DiagonalGaussian", "HierarchicalPosterior", "Hierarchy", "StochasticBlock"]

FIRST_LOG_VARIANCE = 4.0
"""The evidence's, before training: its precision is small beside the prior's, and so is the rate."""

SVHN_LAYERS = {1: 2, 4: 4, 8: 10, 16: 16, 32: 16}
"""The 48 layers of "Mind Your Bits and Errors: Prioritizing the Bits that Matter in VAEs" (2021), appendix A.1."""


class DiagonalGaussian(NamedTuple):
    """N(mean, exp(log_variance)) in every dimension, from tensors [N, C, H, W]."""

    mean: Tensor
    log_variance: Tensor

    @classmethod
    def read(cls, features: Tensor) -> DiagonalGaussian:
        """From means and raw log-variances [N, 2C, H, W], bounded as those of `Gaussian`; in float32."""
        mean, raw = features.float().chunk(2, dim=1)
        return cls(mean, raw / (1 + raw.abs() / LOG_VARIANCE_LIMIT))

    def evidence(self, features: Tensor) -> DiagonalGaussian:
        """What features [N, 2C, H, W], h and a raw log-variance, say of a latent of this prior.

        Its mean is the prior's + h variance / sigma_prior, which moves that of the posterior by h sigma_prior at most,
        and at the least precision (ours; the papers are silent). Were its mean the features themselves, it would move
        the posterior, and be learnt, the less the less the precision: a layer that collapses would stay so.
        """
        slope, log_variance = DiagonalGaussian.read(features)
        return DiagonalGaussian(self.mean + slope * (log_variance - self.log_variance / 2).exp(), log_variance)

    def merged(self, evidence: DiagonalGaussian) -> DiagonalGaussian:
        """The normalised product of both: precisions 1/sigma^2 add, and the means are weighted by them."""
        # log of the ratio of the evidence's precision to this one's: no precision itself is computed, or overflows.
        ratio = self.log_variance - evidence.log_variance
        return DiagonalGaussian(
            torch.lerp(self.mean, evidence.mean, ratio.sigmoid()), self.log_variance - F.softplus(ratio)
        )

    def at(self, noise: Tensor) -> Tensor:
        """Mean + sigma * noise."""
        return self.mean + (self.log_variance / 2).exp() * noise

    def log_prob_at(self, noise: Tensor) -> Tensor:
        """The log-density of `at(noise)` in nats, [N]; exact, where (z - mean) / sigma would lose digits."""
        return -(noise**2 + self.log_variance + log(2 * pi)).sum((1, 2, 3)) / 2

    def log_prob(self, z: Tensor) -> Tensor:
        """The log-density of z in nats, [N]."""
        return self.log_prob_at((z - self.mean) * (-self.log_variance / 2).exp())

    def kl(self, prior: DiagonalGaussian) -> Tensor:
        """KL(self || prior) in nats, [N]."""
        ratio = self.log_variance - prior.log_variance
        distance = (self.mean - prior.mean) ** 2 * (-prior.log_variance).exp()
        return (distance + ratio.expm1() - ratio).sum((1, 2, 3)) / 2


class StochasticBlock(nn.Module):
    """One layer of the top-down pass: a latent z_l at resolution R, its prior, its posterior, and what it adds.

    Args:
        width: channels of the feature map.
        latents: channels of z_l.
        middle: channels inside its networks.
        resolution: R.
        gain: 1 / sqrt(L) among L layers: the first scale of what a layer adds to the feature map.
    """

    def __init__(self, width: int, latents: int, middle: int, resolution: int, gain: float) -> None:
        super().__init__()
        self.latents, self.resolution = latents, resolution
        # Without weights at first in its last convolution: every prior starts as N(0, I), and every posterior near it.
        self.prior = Branch(width, middle, 2 * latents + width, resolution, gain=0)
        self.inference = Branch(2 * width, middle, 2 * latents, resolution)
        nn.init.constant_(self.inference.layers[-1].bias[latents:], FIRST_LOG_VARIANCE)  # type: ignore[index]
        self.project = convolution(latents, width, gain=gain)
        self.residual = ResidualBranch(width, middle, resolution, gain)

    def forward(self, x: Tensor, activations: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Add a latent of the posterior to the feature map.

        Args:
            x: the feature map, of all latents before, [N, width, R, R].
            activations: the bottom-up network's at this resolution, [N, width, R, R].
            noise: z_l in standard deviations from the posterior's mean, [N, latents, R, R] or broadcast to it.

        Returns:
            The next feature map, and KL(q(z_l|z_<l, x) || p(z_l|z_<l)), log q and log p of z_l in nats, [3, N].
        """
        prior, summary = self._prior(x)
        posterior = prior.merged(prior.evidence(self.inference(torch.cat([x, activations], 1))))
        z = posterior.at(noise)
        terms = torch.stack([posterior.kl(prior), posterior.log_prob_at(noise), prior.log_prob(z)])
        return self._add(x + summary, z), terms

    def generate(self, x: Tensor, noise: Tensor) -> Tensor:
        """Add a latent of the prior, at `noise` standard deviations from its mean, to the feature map x."""
        prior, summary = self._prior(x)
        return self._add(x + summary, prior.at(noise))

    def noise(self, x: Tensor) -> Tensor:
        """Standard normal numbers, one of each latent of the feature map x, [N, latents, R, R]."""
        return torch.randn(len(x), self.latents, *x.shape[2:], device=x.device)

    def _prior(self, x: Tensor) -> tuple[DiagonalGaussian, Tensor]:
        """p(z_l|z_<l), and what its network adds to the feature map, [N, width, R, R]."""
        parameters, summary = self.prior(x).split([2 * self.latents, x.shape[1]], dim=1)
        return DiagonalGaussian.read(parameters), summary

    def _add(self, x: Tensor, z: Tensor) -> Tensor:
        return self.residual(x + self.project(z))


class HierarchicalPosterior(Posterior):
    """Gaussian latents of L layers, each given those before it.

    The rate of a draw is the mean over its samples of the sum over layers of KL(q(z_l|z_<l, x) || p(z_l|z_<l)), each in
    closed form; that is unbiased. The statistics are there after a draw, and are its: `rate_R`, the rate of all layers
    at each resolution R in nats per example, averaged over the batch. A layer without rate has collapsed.

    Args:
        hierarchy: the bottleneck.
        activations: the bottom-up network's by resolution R, [B, width, R, R].

    Attributes:
        layer_rates: after a draw, the rate of every layer in nats per example, averaged over the batch, [L].
    """

    layer_rates: Tensor

    def __init__(self, hierarchy: Hierarchy, activations: Mapping[int, Tensor]) -> None:
        self.hierarchy, self.activations = hierarchy, activations
        self.batch = len(next(iter(activations.values())))
        self.losses = {}
        self.statistics = {}

    @property
    def mode(self) -> Tensor:
        """The last feature map with every latent at its posterior's mean, [B, width, R, R]."""
        return self.partial(max(self.hierarchy.layers))

    def partial(self, resolution: int, temperature: float = 0.0) -> Tensor:
        """The last feature map given only what the latents up to `resolution` know of x, [B, width, R, R].

        Args:
            resolution: latents of this resolution and coarser are at their posterior's mean, the finer from the prior.
            temperature: multiplies the prior's standard deviations: 0 is its means, 1 a sample of it.
        """

        def step(block: StochasticBlock, x: Tensor) -> Tensor:
            if block.resolution > resolution:
                return block.generate(x, temperature * block.noise(x))
            return block(x, self.activations[block.resolution], x.new_zeros(()))[0]

        return self.hierarchy.top_down(self.batch, step)

    def draw(self, samples: int = 1) -> Draw:
        """Draw S sets of latents of each example in one top-down pass; z, log q, log p and rate carry the gradient."""
        activations = {
            resolution: activation.expand(samples, *activation.shape).flatten(0, 1)
            for resolution, activation in self.activations.items()
        }
        layers: list[Tensor] = []

        def step(block: StochasticBlock, x: Tensor) -> Tensor:
            x, terms = self.hierarchy.run(block, x, activations[block.resolution], block.noise(x))
            layers.append(terms)
            return x

        z = self.hierarchy.top_down(samples * self.batch, step).unflatten(0, (samples, self.batch))
        kl, log_q, log_p = torch.stack(layers, 1).unflatten(2, (samples, self.batch))  # each [L, S, B]
        self.layer_rates = kl.detach().mean((1, 2))
        by_resolution = self.layer_rates.split(list(self.hierarchy.layers.values()))
        self.statistics = {
            f"rate_{resolution}": rates.sum()
            for resolution, rates in zip(self.hierarchy.layers, by_resolution, strict=True)
        }
        return Draw(z, log_q.sum(0), log_p.sum(0), kl.sum(0).mean(0))


class Hierarchy(Bottleneck):
    """Gaussian latents at several resolutions, between `ImageStem` and `ImageHead`: the very deep VAE.

    A bottom-up network reads the features once; top-down, every layer draws a latent given all before it and adds it to
    a feature map, the last of which is the z that the decoder reads. The Gaussians are in float32 under any autocast.

    Args:
        width: channels of the features, of every feature map and of z.
        latents: channels of the latent of a layer.
        middle: channels inside a block.
        layers: resolution -> the number of stochastic layers there; the finest is the images' size, and each resolution
            divides the next.
        encoder_blocks: resolution -> residual blocks of the bottom-up network; None is half as many as there are
            layers, rounded up.
        checkpointing: compute every block again in the backward pass rather than store its activations: less memory
            for more time, the same gradients.

    Raises:
        NarrowsError: if a size is below 1, a resolution does not divide the next, or the two mappings have different
            resolutions.
    """

    def __init__(
        self,
        width: int = 128,
        latents: int = 16,
        middle: int = 32,
        layers: dict[int, int] = SVHN_LAYERS,
        encoder_blocks: dict[int, int] | None = None,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        for name, value in {"width": width, "latents": latents, "middle": middle}.items():
            if value < 1:
                raise NarrowsError(f"{name} must be at least 1, not {value}")
        self.features = self.channels = width
        self.layers = _checked("layers", layers)
        if encoder_blocks is None:
            encoder_blocks = {resolution: (count + 1) // 2 for resolution, count in self.layers.items()}
        blocks = _checked("encoder_blocks", encoder_blocks)
        if blocks.keys() != self.layers.keys():
            raise NarrowsError(f"encoder_blocks {blocks} must have the resolutions of layers: {list(self.layers)}")
        self.run: Callable[..., Any] = _checkpointed if checkpointing else nn.Module.__call__
        gain = 1 / sqrt(sum(self.layers.values()))
        self.bottom_up = BottomUp(width, middle, blocks)
        self.upsamplings = nn.ModuleList(Upsample(width, resolution) for resolution in self.layers)
        self.stages = cast(
            Sequence[Sequence[StochasticBlock]],
            nn.ModuleList(
                nn.ModuleList(StochasticBlock(width, latents, middle, resolution, gain) for _ in range(count))
                for resolution, count in self.layers.items()
            ),
        )

    def forward(self, features: Tensor) -> HierarchicalPosterior:
        """Return q(z|x) for features [B, `width`, R, R], R the finest resolution of `layers`.

        Raises:
            NarrowsError: if the features have other channels, or `layers` does not fit their size.
        """
        if features.ndim != 4 or features.shape[1] != self.features:
            raise NarrowsError(
                f"features must be [B, {self.features}, H, W] for a hierarchy of that width, not "
                f"{list(features.shape)}: build the encoder with the bottleneck's `features`"
            )
        self._check_grid(tuple(features.shape[2:]))
        return HierarchicalPosterior(self, self.bottom_up(features, self.run))

    def top_down(self, batch: int, step: Callable[[StochasticBlock, Tensor], Tensor]) -> Tensor:
        """The last feature map [`batch`, width, R, R], each block having changed the one before by `step(block, x)`."""
        x = torch.zeros(batch, self.channels, 1, 1, device=next(self.parameters()).device)
        for upsample, stage in zip(self.upsamplings, self.stages, strict=True):
            x = upsample(x)
            for block in stage:
                x = step(block, x)
        return x

    def sample_prior(self, batch: int, grid: tuple[int, ...]) -> Tensor:
        """The last feature map of latents drawn from the prior, [`batch`, width, *grid].

        Raises:
            NarrowsError: if `layers` does not fit the grid.
        """
        self._check_grid(grid)
        return self.top_down(batch, lambda block, x: block.generate(x, block.noise(x)))

    def _check_grid(self, grid: tuple[int, ...]) -> None:
        finest = max(self.layers)
        if grid != (finest, finest):
            size = "x".join(map(str, grid))
            advice = f"set {_fitting(grid[0])}" if len(set(grid)) == 1 else "the images must be square"
            raise NarrowsError(f"the finest resolution of layers is {finest}, but the features are {size}: {advice}")


# The noise is drawn outside the blocks, so that no random state need be kept to compute one again.
_checkpointed = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)


def _checked(name: str, blocks: Mapping[int, int]) -> dict[int, int]:
    """The blocks of each resolution from coarse to fine, if each divides the next and has any."""
    resolutions = sorted(blocks)
    if not resolutions or resolutions[0] < 1 or min(blocks.values()) < 1:
        raise NarrowsError(f"{name} is {blocks}: it must give at least 1 block at each of one or more resolutions")
    for coarse, fine in pairwise(resolutions):
        if fine % coarse:
            raise NarrowsError(f"{name}: resolution {coarse} does not divide {fine}; set {_fitting(resolutions[-1])}")
    return {resolution: blocks[resolution] for resolution in resolutions}


def _fitting(size: int) -> str:
    """Layers that fit images of this size: halved down to about 4, while that leaves whole numbers, and 1."""
    resolutions = {1, size}
    while size % 2 == 0 and size > 4:
        size //= 2
        resolutions.add(size)
    return "layers to {" + ", ".join(f"{resolution}: .." for resolution in sorted(resolutions)) + "}"
