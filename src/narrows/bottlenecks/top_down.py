"""The latents of a hierarchy layer by layer: the distributions of each, given those before it.

Bits-back coding needs this order: z_1 is decoded, then z_2 given z_1, and so on (J. Townsend, T. Bird, D. Barber,
"Practical Lossless Compression with Latent Variables using Bits Back Coding", 2019).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from narrows.bottlenecks.diagonal import DiagonalGaussian
from narrows.bottlenecks.stochastic import StochasticBlock
from narrows.errors import NarrowsError

if TYPE_CHECKING:
    from narrows.bottlenecks.hierarchy import Hierarchy

__all__ = ["LayerDistributions", "TopDown"]


class LayerDistributions(NamedTuple):
    """Distributions of the latent z_l of a layer, [N, latents, R, R], given those before it."""

    prior: DiagonalGaussian
    """p(z_l|z_<l)."""
    posterior: DiagonalGaussian | None
    """q(z_l|z_<l, x); None if x is not given."""


class TopDown:
    """State of a top-down pass for N examples, which is given the latents layer by layer.

        state = hierarchy.begin(n)
        while not state.done:
            prior, _ = state.distributions()
            state.take(prior.at(torch.randn_like(prior.mean)))
        z = state.features

    Args:
        hierarchy: the bottleneck.
        batch: N.
        activations: activations of the bottom-up network for x, by resolution R, after their GELU, [N, width, R, R];
            None if x is not given.
        context: additional conditions of the latents, as for `Hierarchy.forward`.

    Attributes:
        index: number of layers that have their latent.
    """

    def __init__(
        self, hierarchy: Hierarchy, batch: int, activations: Mapping[int, Tensor] | None, context: Mapping[int, Tensor]
    ) -> None:
        self.layers = sum(hierarchy.layers.values())
        self.index = 0
        self._activations = activations
        self._x = hierarchy.empty(batch)
        self._steps = self._walk(hierarchy, context)
        self._block = next(self._steps)
        self._found: tuple[LayerDistributions, Tensor] | None = None

    @property
    def done(self) -> bool:
        """Whether every layer has its latent."""
        return self.index == self.layers

    @property
    def features(self) -> Tensor:
        """The last feature map, [N, width, R, R], which includes all latents and is the decoder's input.

        Raises:
            NarrowsError: if a layer has no latent yet.
        """
        if not self.done:
            raise NarrowsError(f"{self.layers - self.index} of {self.layers} layers have no latent yet: take() them")
        return self._x

    def distributions(self) -> LayerDistributions:
        """Return the prior and the posterior of the next latent, [N, latents, R, R].

        Raises:
            NarrowsError: if every layer has its latent.
        """
        return self._next()[0]

    def take(self, z: Tensor) -> None:
        """Set the latent z of the next layer, [N, latents, R, R].

        Raises:
            NarrowsError: if every layer has its latent, or z has another shape.
        """
        (prior, _), x = self._next()
        if z.shape != prior.mean.shape:
            raise NarrowsError(
                f"the latent of layer {self.index + 1} must be {list(prior.mean.shape)}, not {list(z.shape)}"
            )
        self._x = self._block.add(x, z)
        self.index += 1
        self._found = None
        if not self.done:
            self._block = next(self._steps)

    def _next(self) -> tuple[LayerDistributions, Tensor]:
        """Return the distributions of the next latent and the feature map to add it to; computed only once."""
        if self.done:
            raise NarrowsError(f"all {self.layers} layers have their latent: call begin() for new examples")
        if self._found is None:
            posterior = None
            if self._activations is None:
                prior, x = self._block.prior_at(self._x)
            else:
                activations = self._activations[self._block.resolution]
                prior, posterior, x = self._block.distributions(self._x, activations)
            self._found = LayerDistributions(prior, posterior), x
        return self._found

    def _walk(self, hierarchy: Hierarchy, context: Mapping[int, Tensor]) -> Iterator[StochasticBlock]:
        """Yield the blocks in turn, after bringing the feature map to each block's resolution."""
        for resolution, stage in zip(hierarchy.layers, hierarchy.stages, strict=True):
            self._x = hierarchy.enter(resolution, self._x, context)
            yield from stage
