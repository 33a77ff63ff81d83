"""An autoencoder: encoder -> bottleneck -> decoder -> likelihood, and the prior over its codes once one is fitted.

x -> features -> q(z|x) -> z -> p(x|z). The VQ-VAE (van den Oord et al. 2017) and the VAE (Kingma and Welling 2014)
differ in the bottleneck alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from narrows.bottlenecks import Bottleneck, DiscreteBottleneck, Draw, Posterior
from narrows.errors import NarrowsError
from narrows.estimators import Evidence
from narrows.likelihoods import Likelihood, Observation
from narrows.priors import CodeSpec, Prior, sample
from narrows.tracing import is_traced

__all__ = ["Autoencoder", "lines", "require_tensor"]

MARGIN = 1e-4
"""How far beyond its bounds data may be."""


class Autoencoder(nn.Module):
    """p(x|z), q(z|x) and p(z) over data x [B, C, *size] in [0, 1].

    Args:
        shape: (C, *size) of one example.
        encoder: makes the network from C channels to the features that the bottleneck reads.
        bottleneck: features -> q(z|x).
        decoder: makes the network from z to the channels that the likelihood reads.
        likelihood: makes the observation model of C channels.

    Attributes:
        bounds: the least and the largest value of the data.
        grid: the latents' positions, for example (8, 8).
        prior: p(codes | label) fitted to this model's codes, or None: the bottleneck's fixed prior is used.
        classes: the names of the data's labels in their order, [] if it has none.

    Raises:
        NarrowsError: if decoder(encoder(x)) has not the size of x.
    """

    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __init__(
        self,
        shape: tuple[int, ...],
        encoder: Callable[[int, int], nn.Module],
        bottleneck: Bottleneck,
        decoder: Callable[[int, int], nn.Module],
        likelihood: Callable[[int], Likelihood],
    ) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.bottleneck = bottleneck
        self.likelihood = likelihood(shape[0])
        self.encoder = encoder(shape[0], bottleneck.features)
        self.decoder = decoder(bottleneck.channels, self.likelihood.features)
        self.prior: Prior | None = None
        self.classes: list[str] = []
        # Convolutions run faster on interleaved channels, and the bottleneck reads the features as tokens, uncopied.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.grid = self._traced_grid()

    def _traced_grid(self) -> tuple[int, ...]:
        with torch.no_grad():
            try:
                features = self.encoder(torch.zeros(1, *self.shape))
            except RuntimeError as error:
                raise NarrowsError(
                    f"this encoder cannot read examples of size {self.shape[1:]} ({error}): use fewer downsamplings, "
                    "or set data.size"
                ) from error
            grid = tuple(features.shape[2:])
            decoded = tuple(self.decoder(torch.zeros(1, self.bottleneck.channels, *grid)).shape[2:])
        if decoded != self.shape[1:]:
            raise NarrowsError(
                f"this encoder and decoder turn images of size {self.shape[1:]} into {decoded}: set data.size to a "
                "size they keep (a multiple of 2^n for n downsamplings), or as many upsamplings as downsamplings"
            )
        return grid

    @property
    def dimensions(self) -> int:
        """d, the dimensions of one example."""
        return torch.Size(self.shape).numel()

    @property
    def discrete(self) -> bool:
        """Whether the latents are integer codes."""
        return isinstance(self.bottleneck, DiscreteBottleneck)

    @property
    def lacks_prior(self) -> bool:
        """Whether samples would be of codes drawn uniformly, for no prior was fitted to them yet."""
        return self.discrete and self.prior is None

    @property
    def sampled_prior(self) -> Prior | None:
        """The learned prior that samples begin with; None where they are drawn from the fixed one."""
        return self.prior

    @property
    def codes(self) -> CodeSpec:
        """What a prior over this model's codes needs to know of them.

        Raises:
            NarrowsError: if the latents are continuous.
        """
        if not isinstance(self.bottleneck, DiscreteBottleneck):
            raise NarrowsError(
                f"{type(self.bottleneck).__name__} latents are continuous and have no codes for a prior to learn: "
                "train a recipe with a discrete bottleneck, such as vqvae-images"
            )
        return CodeSpec(self.grid, self.bottleneck.codebooks, self.bottleneck.codebook_size, len(self.classes))

    def takes(self, spec: CodeSpec) -> bool:
        """Whether a prior over codes of that specification is one over this model's codes."""
        return spec == self.codes

    def check_data(self, x: Tensor) -> Tensor:
        """Return x, in the type of the weights, as the methods for data of a user's own read it.

        Raises:
            NarrowsError: if it is not floats [B, C, *size] within `bounds`.
        """
        require_tensor(x)
        if is_traced():
            return x
        if x.shape[1:] != self.shape:
            raise NarrowsError(
                f"x must have the shape {['B', *self.shape]}, not {list(x.shape)}: scale and crop images to the "
                "model's size, as `narrows.data.read_images(files, model.shape)` does"
            )
        return self._check_range(x)

    def _check_range(self, x: Tensor) -> Tensor:
        low, high = self.bounds
        if not x.is_floating_point():
            raise NarrowsError(f"x must be floats in [{low:g}, {high:g}], not {x.dtype}: divide levels 0 to 255 by 255")
        # NaN is within no bounds; the margin is for the rounding of whatever scaled the data.
        if not ((x >= low - MARGIN) & (x <= high + MARGIN)).all():
            raise NarrowsError(
                f"x must be in [{low:g}, {high:g}], and it runs from {x.min():g} to {x.max():g}: scale it (levels 0 to "
                "255 by 1/255), clamp it, or look for NaN in it"
            )
        return x.to(next(self.parameters()).dtype)

    def posterior(self, x: Tensor) -> Posterior:
        """q(z|x) of x [B, C, *size]."""
        return self.bottleneck(self.features(x))

    def features(self, x: Tensor) -> Tensor:
        """The encoder's output [B, features, *grid] for x [B, C, *size] in [0, 1], which it reads as [-1, 1]."""
        return self.encoder(2 * x - 1)

    def observe(self, z: Tensor) -> Observation:
        """p(x|z) for latents z [B, channels, *grid]."""
        return self.likelihood(self.decoder(z))

    def evidence(self, x: Tensor, draw: Callable[[Posterior], Draw]) -> tuple[Posterior, Evidence]:
        """q(z|x) of x [B, C, *size], and the log-probabilities of the S latents of each example that `draw` draws.

        The decoder runs once, on all S B latents.
        """
        posterior = self.posterior(x)
        z, log_q, log_p, rate, statistics, layer_rates = draw(posterior)
        repeated = x.expand(len(z), *x.shape).flatten(0, 1)
        observation = self.observe(z.flatten(0, 1))
        log_likelihood = observation.log_prob(repeated).view(log_q.shape)
        evidence = Evidence(log_likelihood, log_q, log_p, rate, x, observation, statistics, layer_rates)
        return posterior, evidence

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Return the codes of x [B, C, *size]: int64 [B, *grid] or [B, *grid, M]; a VAE's mean latent [B, C, *grid].

        Raises:
            NarrowsError: if x has another shape, or values that are not finite or out of bounds.
        """
        posterior = self.posterior(self.check_data(x))
        return posterior.mode if posterior.codes is None else posterior.codes

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Return the mean of p(x|z), [B, C, *size], for codes of any integer type as `encode` gives them."""
        return self.observe(self._embed(self.check_latents(codes))).mean

    def check_latents(self, codes: Tensor) -> Tensor:
        """Return codes, or mean latents of a continuous model, as `encode` gives them.

        Raises:
            NarrowsError: if they have another number of dimensions.
        """
        require_tensor(codes)
        wanted = ["B", *(["C"] if not self.discrete else []), *self.grid]
        wanted += [self.codes.codebooks] if self.discrete and self.codes.codebooks > 1 else []
        if codes.ndim != len(wanted):
            raise NarrowsError(f"codes must have the shape {wanted}, not {list(codes.shape)}")
        return codes

    def _embed(self, codes: Tensor) -> Tensor:
        """The latents of codes, of any integer type, such as the small ones that files hold."""
        return self.bottleneck.embed(codes) if isinstance(self.bottleneck, DiscreteBottleneck) else codes

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """Return decode(encode(x)); x as for `encode`."""
        return self.observe(self.posterior(self.check_data(x)).mode).mean

    @torch.no_grad()
    def interpolate(self, start: Tensor, end: Tensor, steps: int) -> Tensor:
        """Decode `steps` (T) points on the line between the features of two batches: [B, T, C, *size].

        Discrete codes are read off the interpolated features, so the ends are the two reconstructions.
        """
        path = lines(self.features(self.check_data(start)), self.features(self.check_data(end)), steps)
        return self.observe(self.bottleneck(path.flatten(0, 1)).mode).mean.unflatten(0, path.shape[:2])

    def sample(
        self,
        n: int,
        labels: Tensor | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        generator: torch.Generator | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """The means of p(x|z) for latents that `generate` draws from the same arguments: [n, C, *size]."""
        return self.generate(n, labels, temperature, top_k, top_p, generator, progress).mean

    @torch.no_grad()
    def generate(
        self,
        n: int,
        labels: Tensor | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        generator: torch.Generator | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Observation:
        """p(x|z) for n latents drawn from the learned prior, or the fixed one where none was fitted.

        Its `mean` is what `sample` returns; its `sample()` draws the pixels as well.

        Args:
            n: the number of examples.
            labels: [n] class indices of a class-conditional prior; None draws them uniformly.
            temperature: divides the prior's logits.
            top_k: only the k most probable values of each code.
            top_p: only the most probable values of each code that together reach this probability.
            generator: the source of randomness of the learned prior.
            progress: called with the codes done and the codes in all.
        """
        if n < 1:
            raise NarrowsError(f"n is {n}: it must be at least 1")
        if self.prior is None:
            return self._observe_drawn(self.bottleneck.sample_prior(n, self.grid), labels)
        if labels is None and self.prior.classes:
            source = "cpu" if generator is None else generator.device
            labels = torch.randint(self.prior.classes, (n,), generator=generator, device=source)
        codes = sample(self.prior, n, labels, temperature, top_k, top_p, generator, progress)
        return self._observe_drawn(self._embed(codes), labels)

    def _observe_drawn(self, z: Tensor, labels: Tensor | None) -> Observation:
        """p(x|z) of latents drawn for examples of these labels."""
        return self.observe(z)


def require_tensor(x: object) -> None:
    """Refuse arrays of other libraries.

    Raises:
        NarrowsError: if x is not a tensor.
    """
    if not isinstance(x, Tensor):
        raise NarrowsError(f"this takes a torch.Tensor, not a {type(x).__name__}: use torch.from_numpy")


def lines(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """`steps` (T) points from each row of `start` to that of `end`, both [B, ...], the ends included: [B, T, ...]."""
    weights = torch.linspace(0, 1, steps, device=start.device).view(-1, *[1] * (start.dim() - 1))
    return torch.lerp(start.unsqueeze(1), end.unsqueeze(1), weights)
