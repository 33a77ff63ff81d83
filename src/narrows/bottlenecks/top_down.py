"""A hierarchy's latents one layer after another: the distributions of each, given those before it.

Bits-back coding needs them so: z_1 is decoded, then z_2 given z_1, and so on (J. Townsend, T. Bird, D. Barber,
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
    """What is known of the latent z_l of a layer, [N, latents, R, R], given those before it."""

    prior: DiagonalGaussian
    """p(z_l|z_<l)."""
    posterior: DiagonalGaussian | None
    """q(z_l|z_<l, x); None where x is not given."""


class TopDown:
    """The latents of N examples as far as they are given, from the first layer on.

        state = hierarchy.begin(n)
        while not state.done:
            prior, _ = state.distributions()
            state.take(prior.at(torch.randn_like(prior.mean)))
        z = state.features

    Args:
        hierarchy: the bottleneck.
        batch: N.
        activations: the bottom-up network's of x by resolution R, [N, width, R, R]; None where x is not given.
        context: what the latents are given besides, as for `Hierarchy.forward`.

    Attributes:
        index: how many layers have their latent.
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
        """The last feature map, of all latents, [N, width, R, R]: what the decoder reads.

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
        """Give the next layer its latent z, [N, latents, R, R].

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
        """The distributions of the next latent, and the feature map that it is to be added to; computed once."""
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
        """The blocks in turn, each after the feature map has come to its resolution."""
        for resolution, stage in zip(hierarchy.layers, hierarchy.stages, strict=True):
            self._x = hierarchy.enter(resolution, self._x, context)
            yield from stage
