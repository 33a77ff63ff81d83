"""The latents of the very deep VAE: q(z|x) = prod_l q(z_l|z_<l, x) against p(z) = prod_l p(z_l|z_<l), coarse to fine.

R. Child, "Very Deep VAEs Generalize Autoregressive Models and Can Outperform Them on Images" (2021), with posterior and
prior merged by precision: C. K. Sønderby et al., "Ladder Variational Autoencoders" (2016).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from math import sqrt
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from narrows.bottlenecks.posterior import NOTHING, Bottleneck, Draw, Posterior
from narrows.bottlenecks.stochastic import StochasticBlock, Terms
from narrows.bottlenecks.top_down import TopDown
from narrows.errors import NarrowsError
from narrows.networks.hierarchy import BottomUp, Upsample

__all__ = ["HierarchicalPosterior", "Hierarchy"]

SVHN_LAYERS = {1: 2, 4: 4, 8: 10, 16: 16, 32: 16}
"""The 48 layers of "Mind Your Bits and Errors: Prioritizing the Bits that Matter in VAEs" (2021), appendix A.1."""


class HierarchicalPosterior(Posterior):
    """Gaussian latents of L layers, each conditioned on those before it.

    The rate of a draw is the mean over its samples of the sum over layers of KL(q(z_l|z_<l, x) || p(z_l|z_<l)), each in
    closed form; this estimate is unbiased. The statistics of a draw are `rate_at_RxR`, the rate of all layers at each
    resolution R, in nats per example averaged over the batch. A layer whose rate is zero has collapsed.

    Args:
        hierarchy: the bottleneck.
        activations: activations of the bottom-up network by resolution R, after their GELU, [B, width, R, R].
        context: additional conditions of the latents, as for `Hierarchy.forward`.
    """

    def __init__(
        self, hierarchy: Hierarchy, activations: Mapping[int, Tensor], context: Mapping[int, Tensor] = NOTHING
    ) -> None:
        self.hierarchy, self.activations, self.context = hierarchy, activations, context
        self.batch = len(next(iter(activations.values())))
        self.losses = {}
        self.statistics = {}

    @property
    def mode(self) -> Tensor:
        """The last feature map with every latent at its posterior's mean, [B, width, R, R]."""
        return self.partial(max(self.hierarchy.layers))

    def partial(self, resolution: int, temperature: float = 0.0) -> Tensor:
        """Return the last feature map if only the latents up to `resolution` depend on x, [B, width, R, R].

        Args:
            resolution: latents of this resolution and coarser are at the posterior's mean, finer ones follow the prior.
            temperature: factor on the prior's standard deviations: 0 gives its means, 1 a sample.
        """

        def step(block: StochasticBlock, x: Tensor) -> Tensor:
            if block.resolution > resolution:
                return block.generate(x, temperature * block.noise(x))
            return block(x, self.activations[block.resolution], x.new_zeros(()))[0]

        return self.hierarchy.top_down(self.batch, step, self.context)

    def draw(self, samples: int = 1) -> Draw:
        """Draw S sets of latents per example in one top-down pass; z, log q, log p and rate carry the gradient."""
        activations, context = _repeated(self.activations, samples), _repeated(self.context, samples)
        layers: list[Terms] = []

        def step(block: StochasticBlock, x: Tensor) -> Tensor:
            x, terms = self.hierarchy.run(block, x, activations[block.resolution], block.noise(x))
            layers.append(terms)
            return x

        return self._drawn(self.hierarchy.top_down(samples * self.batch, step, context), layers, samples)

    def follow(self, latents: Sequence[Tensor]) -> Draw:
        """Return the draw that consists of the given latents; z, log q, log p and rate carry the gradient.

        Args:
            latents: latents of each layer, from first to last, [S, B, latents, R, R].

        Raises:
            NarrowsError: if the number of tensors is not the number of layers, or a shape differs.
        """
        shapes = [tuple(z.shape[1:]) for z in latents]
        wanted = self.hierarchy.latent_shapes(self.batch)
        if shapes != wanted or len({len(z) for z in latents}) != 1:
            raise NarrowsError(f"the latents must be S times {wanted}, one tensor for each layer, not {shapes}")
        samples, given = len(latents[0]), iter(latents)
        activations, context = _repeated(self.activations, samples), _repeated(self.context, samples)
        layers: list[Terms] = []

        def step(block: StochasticBlock, x: Tensor) -> Tensor:
            x, terms = block.follow(x, activations[block.resolution], next(given).flatten(0, 1))
            layers.append(terms)
            return x

        return self._drawn(self.hierarchy.top_down(samples * self.batch, step, context), layers, samples)

    def begin(self) -> TopDown:
        """Return the state before the first latent of x; the latents are then given to it layer by layer."""
        return self.hierarchy.begin(self.batch, self.activations, self.context)

    def _drawn(self, z: Tensor, layers: list[Terms], samples: int) -> Draw:
        """Return the draw with the last feature map [S * B, ...], from the terms of each layer."""
        shape = (samples, self.batch)
        kl, log_q, log_p = (torch.stack(terms).unflatten(1, shape) for terms in zip(*layers, strict=True))  # [L, S, B]
        statistics, layer_rates = self._by_layer(kl.detach().mean(1))
        return Draw(z.unflatten(0, shape), log_q.sum(0), log_p.sum(0), kl.sum(0).mean(0), statistics, layer_rates)

    def _by_layer(self, rates: Tensor) -> tuple[dict[str, Tensor], dict[tuple[str, int], Tensor]]:
        """Return the statistics and the layer rates of a draw with rates [L, B]."""
        statistics: dict[str, Tensor] = {}
        layer_rates: dict[tuple[str, int], Tensor] = {}
        by_resolution = rates.split(list(self.hierarchy.layers.values()))
        for resolution, part in zip(self.hierarchy.layers, by_resolution, strict=True):
            size = f"{resolution}x{resolution}"
            layer_rates |= {(size, number): rate for number, rate in enumerate(part, start=1)}
            statistics[f"rate_at_{size}"] = part.sum(0).mean()
        return statistics, layer_rates


class Hierarchy(Bottleneck):
    """The bottleneck of the very deep VAE: Gaussian latents at several resolutions, between `Stem` and `Head`.

    A bottom-up network reads the features once. Top-down, a layer draws a latent given all before it and adds it to a
    feature map; the last one is the z that the decoder reads. The Gaussians are in float32, even under autocast.

    Args:
        width: channels of the features, of every feature map and of z.
        latents: channels of each layer's latent.
        middle: channels inside a block.
        layers: number of stochastic layers at each resolution; the finest is the size of the images, and each
            resolution divides the next.
        encoder_blocks: number of residual blocks of the bottom-up network at each resolution; None means half the
            number of layers, rounded up.
        checkpointing: recompute every block in the backward pass instead of storing its activations: less memory for
            more time, with the same gradients.

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
        self.middle = middle
        self.layers = _checked("layers", layers)
        if encoder_blocks is None:
            encoder_blocks = {resolution: (count + 1) // 2 for resolution, count in self.layers.items()}
        self.encoder_blocks = _checked("encoder_blocks", encoder_blocks)
        if self.encoder_blocks.keys() != self.layers.keys():
            raise NarrowsError(
                f"encoder_blocks {self.encoder_blocks} must have the resolutions of layers: {list(self.layers)}"
            )
        self.run: Callable[..., Any] = _checkpointed if checkpointing else nn.Module.__call__
        gain = 1 / sqrt(sum(self.layers.values()))
        self.bottom_up = self.reader()
        self.upsamplings = nn.ModuleList(Upsample(width, resolution) for resolution in self.layers)
        self.stages = cast(
            Sequence[Sequence[StochasticBlock]],
            nn.ModuleList(
                nn.ModuleList(StochasticBlock(width, latents, middle, resolution, gain) for _ in range(count))
                for resolution, count in self.layers.items()
            ),
        )

    def reader(self) -> BottomUp:
        """Return a new bottom-up network of this hierarchy's sizes."""
        return BottomUp(self.features, self.middle, self.encoder_blocks)

    def forward(
        self, features: Tensor, mask: Tensor | None = None, context: Mapping[int, Tensor] = NOTHING
    ) -> HierarchicalPosterior:
        """Return q(z|x) for features [B, `width`, R, R], where R is the finest resolution of `layers`.

        Args:
            features: features of x that the posterior depends on.
            mask: must be None, because the grids have one size, that of the images, and every position counts.
            context: conditions of prior and posterior by resolution r, [B, width, r, r], added to the feature
                map when the top-down pass reaches that resolution.

        Raises:
            NarrowsError: if the features have other channels, their size does not match `layers`, or a mask is given.
        """
        if mask is not None:
            raise NarrowsError(
                "a Hierarchy does not support masks, because its grids have one size and all positions count: train it "
                "on examples of that size, or choose another bottleneck"
            )
        if features.ndim != 4 or features.shape[1] != self.features:
            raise NarrowsError(
                f"features must be [B, {self.features}, H, W] for a hierarchy of that width, not "
                f"{list(features.shape)}: build the encoder with the bottleneck's `features`"
            )
        self._check_grid(tuple(features.shape[2:]))
        return HierarchicalPosterior(self, self.bottom_up(features, self.run), context)

    def top_down(
        self, batch: int, step: Callable[[StochasticBlock, Tensor], Tensor], context: Mapping[int, Tensor] = NOTHING
    ) -> Tensor:
        """Return the last feature map [`batch`, width, R, R], after updating it with `step(block, x)` in each block."""
        x = self.empty(batch)
        for resolution, stage in zip(self.layers, self.stages, strict=True):
            x = self.enter(resolution, x, context)
            for block in stage:
                x = step(block, x)
        return x

    def begin(
        self, batch: int, activations: Mapping[int, Tensor] | None = None, context: Mapping[int, Tensor] = NOTHING
    ) -> TopDown:
        """Return the state before the first latent of `batch` examples; the latents are then given layer by layer.

        Args:
            batch: N.
            activations: activations of the bottom-up network for x, by resolution; None if only the prior is needed.
            context: as for `forward`.
        """
        return TopDown(self, batch, activations, context)

    def empty(self, batch: int) -> Tensor:
        """Return the feature map before the first layer, zeros [`batch`, width, 1, 1]."""
        return torch.zeros(batch, self.channels, 1, 1, device=next(self.parameters()).device)

    def enter(self, resolution: int, x: Tensor, context: Mapping[int, Tensor]) -> Tensor:
        """Upsample the feature map x of the previous resolution to this one, and add the context given for it."""
        x = self.upsamplings[list(self.layers).index(resolution)](x)
        return x + context[resolution] if resolution in context else x

    def latent_shapes(self, batch: int) -> list[tuple[int, ...]]:
        """Return the shape of each layer's latents, [`batch`, latents, R, R]."""
        blocks = (block for stage in self.stages for block in stage)
        return [(batch, block.latents, block.resolution, block.resolution) for block in blocks]

    def sample_prior(self, batch: int, grid: tuple[int, ...], context: Mapping[int, Tensor] = NOTHING) -> Tensor:
        """Return the last feature map with latents drawn from the prior, given any context: [`batch`, width, *grid].

        Raises:
            NarrowsError: if the grid does not match `layers`.
        """
        self._check_grid(grid)
        return self.top_down(batch, lambda block, x: block.generate(x, block.noise(x)), context)

    def _check_grid(self, grid: tuple[int, ...]) -> None:
        finest = max(self.layers)
        if grid != (finest, finest):
            size = "x".join(map(str, grid))
            advice = f"set {_fitting(grid[0])}" if len(set(grid)) == 1 else "the images must be square"
            raise NarrowsError(f"the finest resolution of layers is {finest}, but the features are {size}: {advice}")


# The noise is drawn outside the blocks, so recomputing a block needs no saved random state.
_checkpointed = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)


def _repeated(maps: Mapping[int, Tensor], samples: int) -> dict[int, Tensor]:
    """Repeat feature maps [B, ...] S times: [S * B, ...]."""
    return {resolution: x.expand(samples, *x.shape).flatten(0, 1) for resolution, x in maps.items()}


def _checked(name: str, blocks: Mapping[int, int]) -> dict[int, int]:
    """Return the blocks of each resolution from coarse to fine; refuse empty ones and sizes that do not divide."""
    resolutions = sorted(blocks)
    if not resolutions or resolutions[0] < 1 or min(blocks.values()) < 1:
        raise NarrowsError(f"{name} is {blocks}: it must give at least 1 block at each of one or more resolutions")
    for coarse, fine in pairwise(resolutions):
        if fine % coarse:
            raise NarrowsError(f"{name}: resolution {coarse} does not divide {fine}; set {_fitting(resolutions[-1])}")
    return {resolution: blocks[resolution] for resolution in resolutions}


def _fitting(size: int) -> str:
    """Suggest `layers` for images of this size: 1, and the size halved down to about 4 while it stays whole."""
    resolutions = {1, size}
    while size % 2 == 0 and size > 4:
        size //= 2
        resolutions.add(size)
    return "layers to {" + ", ".join(f"{resolution}: .." for resolution in sorted(resolutions)) + "}"
