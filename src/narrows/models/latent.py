"""A latent variable model: encoder -> bottleneck -> decoder -> likelihood, and the quantities that training needs.

x -> features -> q(z|x) -> z -> p(x|z). Variable length, padding, class-conditional decoders and autoregressive decoders
are independent of each other.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from narrows.bottlenecks import Bottleneck, DiscreteBottleneck, Draw, Posterior
from narrows.data import Batch, Spec
from narrows.errors import NarrowsError
from narrows.estimators import Evidence
from narrows.likelihoods import DiscreteLikelihood, Likelihood, Observation
from narrows.networks import AutoregressiveDecoder
from narrows.priors import CodeSpec, Prior

__all__ = ["DecoderFactory", "LatentVariableModel"]


class DecoderFactory(Protocol):
    """Makes the decoder, from `latents` channels to the `outputs` channels that the likelihood reads.

    A class-conditional decoder also has the argument `classes`, their number; its `forward` reads the classes, int64
    [B], after the latents. One that outputs several positions per latent also has `hop`, their number.
    """

    def __call__(self, latents: int, outputs: int, /, *, classes: int, hop: int) -> nn.Module:
        """Make the decoder."""


class LatentVariableModel(nn.Module):
    """p(x|z), q(z|x) and p(z) over data x [B, C, *size].

    For data of variable length, the first axis of `size` varies. It is padded with zeros to a multiple of the encoder's
    `hop`, the number of positions per latent; the padding does not count, neither in masks nor in latents.

    Args:
        spec: the data to model; a tuple (C, *size) means data in [0, 1] of that shape, without classes.
        encoder: makes the network from C channels to the features that the bottleneck reads.
        bottleneck: maps features to q(z|x).
        decoder: makes the network from z to the channels that the likelihood reads.
        likelihood: makes the observation model of C channels.

    Attributes:
        shape: (C, *size) of one example, or of a training window if the length varies.
        grid: the grid of the latents, for example (8, 8).
        prior: p(codes | condition) fitted to this model's codes; None uses the bottleneck's fixed prior.
        classes: names of the classes, [] if there are none.

    Raises:
        NarrowsError: if encoder and decoder change the size of x, an autoregressive decoder is used with a likelihood
            without discrete levels or with examples of a fixed size, or data with features of each position have a
            fixed size or several positions per latent.
    """

    def __init__(
        self,
        spec: Spec | tuple[int, ...],
        encoder: Callable[[int, int], nn.Module],
        bottleneck: Bottleneck,
        decoder: DecoderFactory,
        likelihood: Callable[[int], Likelihood],
    ) -> None:
        super().__init__()
        self._spec = spec if isinstance(spec, Spec) else Spec(tuple(spec))
        self.shape = self._spec.shape
        self.classes = list(self._spec.classes)
        self.bottleneck = bottleneck
        self.likelihood = likelihood(self.shape[0])
        self.encoder = encoder(self.shape[0], bottleneck.features)
        if self._spec.channels and not (self.variable and self.hop == 1):
            found = f"{self.hop} positions per latent" if self.variable else "examples of a fixed size"
            raise NarrowsError(
                f"the data have features of each position, which become those of each latent, but this model has "
                f"{found}: use data of variable length and an encoder without stride along their first axis"
            )
        given = {"classes": len(self.classes), "hop": self.hop}
        if issubclass(made := _made_by(decoder), Prior):
            raise NarrowsError(f"a {made.__name__} describes codes, not data: only a Stacked model decodes by one")
        taken = _settings_of(decoder) & set(given)
        settings: dict[str, Any] = {name: given[name] for name in sorted(taken)}
        self.decoder = decoder(bottleneck.channels, self.likelihood.features, **settings)
        self.conditional = "classes" in taken
        if isinstance(self.decoder, AutoregressiveDecoder) and not isinstance(self.likelihood, DiscreteLikelihood):
            raise NarrowsError(
                f"a {type(self.decoder).__name__} draws discrete levels, but {type(self.likelihood).__name__} has "
                "none: set model.likelihood to one with levels, such as MuLawCategorical or Bernoulli"
            )
        if self.autoregressive and not self.variable:
            raise NarrowsError(
                f"a {type(self.decoder).__name__} draws examples of variable length, but these have the fixed size "
                f"{self.shape[1:]}: train it on data of variable length, or use another decoder"
            )
        self.prior: Prior | None = None
        self._to_channels_last()
        self.grid = self._window_grid() if self.variable else self._traced_grid(self.shape)

    def _to_channels_last(self) -> None:
        """Lay out 2-D convolutions with channels last: most are faster, and quantizers read tokens without a copy.

        PyTorch's `to` would refuse a model that also has 3-D convolutions.
        """
        for tensor in (*self.parameters(), *self.buffers()):
            if tensor.dim() == 4:
                tensor.data = tensor.data.to(memory_format=torch.channels_last)

    def _window_grid(self) -> tuple[int, ...]:
        latents, rest = divmod(self.shape[1], self.hop)
        if rest:
            raise NarrowsError(
                f"data.window is {self.shape[1]}, which is not a multiple of {self.hop}, the encoder's positions per "
                f"code: set it to {(latents + 1) * self.hop}"
            )
        if len(self.shape) == 2:
            return (latents,)
        # The other axes are of a fixed size, and one latent is enough to find their grid.
        return (latents, *self._traced_grid((self.shape[0], self.hop, *self.shape[2:]))[1:])

    def _traced_grid(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the grid of an example of a shape (C, *size)."""
        with torch.no_grad():
            try:
                features = self.encoder(torch.zeros(1, *shape))
            except RuntimeError as error:
                raise NarrowsError(
                    f"this encoder cannot read examples of size {shape[1:]} ({error}): use fewer downsamplings, "
                    "or set data.size"
                ) from error
            grid = tuple(features.shape[2:])
            decoded = tuple(self.decoder(torch.zeros(1, self.bottleneck.channels, *grid)).shape[2:])
        if decoded != shape[1:]:
            raise NarrowsError(
                f"this encoder and decoder turn examples of size {shape[1:]} into {decoded}: set data.size to a "
                "multiple of 2^n for n downsamplings, and use as many upsamplings as downsamplings"
            )
        return grid

    @property
    def spec(self) -> Spec:
        """Specification of the data to model."""
        return replace(self._spec, classes=tuple(self.classes))

    @property
    def variable(self) -> bool:
        """Whether examples have variable length."""
        return self._spec.variable

    @property
    def hop(self) -> int:
        """Number of positions of the first axis per latent; 1 if examples have a fixed size.

        Raises:
            NarrowsError: if examples have variable length and the encoder has no `hop`.
        """
        if not self.variable:
            return 1
        hop = getattr(self.encoder, "hop", None)
        if not isinstance(hop, int):
            raise NarrowsError(
                f"{type(self.encoder).__name__} cannot encode examples of variable length: use StridedEncoder or "
                "SpectrogramEncoder"
            )
        return hop

    @property
    def autoregressive(self) -> bool:
        """Whether the decoder draws data position by position instead of describing all positions at once."""
        return isinstance(self.decoder, AutoregressiveDecoder)

    @property
    def dimensions(self) -> int:
        """d, number of dimensions of one example, or of a training window if the length varies."""
        return torch.Size(self.shape).numel()

    @property
    def discrete(self) -> bool:
        """Whether the latents are integer codes."""
        return isinstance(self.bottleneck, DiscreteBottleneck)

    @property
    def lacks_prior(self) -> bool:
        """Whether samples would use uniformly drawn codes because no prior has been fitted yet."""
        return self.discrete and self.prior is None

    @property
    def sampled_prior(self) -> Prior | None:
        """The learned prior from which sampling starts; None if samples use the fixed prior."""
        return self.prior

    @property
    def sampled_length(self) -> int:
        """Length of the first axis of the examples that `sample` draws."""
        return self.hop * (self.grid if self.prior is None else self.prior.grid)[0] if self.variable else self.shape[1]

    @property
    def codes(self) -> CodeSpec:
        """Specification of this model's codes for a prior.

        Raises:
            NarrowsError: if the latents are continuous.
        """
        return self.codes_of(self.grid)

    def codes_of(self, grid: tuple[int, ...]) -> CodeSpec:
        """Return the specification of codes on another grid, such as windows of another length.

        Raises:
            NarrowsError: if the latents are continuous.
        """
        if not isinstance(self.bottleneck, DiscreteBottleneck):
            raise NarrowsError(
                f"{type(self.bottleneck).__name__} latents are continuous and have no codes for a prior to learn: "
                "train a recipe with a discrete bottleneck, such as VectorQuantizer"
            )
        sizes = self.bottleneck.codebooks, self.bottleneck.codebook_size
        return CodeSpec(grid, *sizes, len(self.classes), self._spec.channels)

    def takes(self, spec: CodeSpec) -> bool:
        """Return whether a prior with this specification fits this model's codes."""
        return spec == self.codes_of((spec.grid[0], *self.grid[1:]) if self.variable else self.grid)

    def check_condition(self, condition: Tensor | None, batch: int) -> Tensor | None:
        """Return the classes of `batch` examples for the decoder; None if the decoder does not use classes.

        Raises:
            NarrowsError: if the classes are missing, of another shape, or unknown.
        """
        given = self._one_each(condition, batch)
        if given is not None and given.numel() and not -1 <= int(given.min()) <= int(given.max()) < len(self.classes):
            raise NarrowsError(f"classes are numbers below {len(self.classes)}, or -1 if unknown, not {given.tolist()}")
        return given

    def _one_each(self, condition: Tensor | None, batch: int) -> Tensor | None:
        """Do the same as `check_condition`, but skip the check of the values, which would synchronise the device."""
        if not self.conditional:
            return None
        device = next(self.parameters()).device
        if condition is None:
            if len(self.classes) > 1:
                raise NarrowsError(
                    f"choose which of the {len(self.classes)} classes to decode: {', '.join(self.classes)}"
                )
            return torch.zeros(batch, dtype=torch.long, device=device)
        if condition.shape != (batch,):
            raise NarrowsError(f"classes must have the shape [{batch}], one per example, not {list(condition.shape)}")
        return condition.long().to(device)

    def posterior(self, x: Tensor, mask: Tensor | None = None) -> Posterior:
        """Return q(z|x) of x [B, C, *size], in which only positions where `mask` is True count."""
        batch = self.filled(Batch(x, mask))
        features = self.features(batch.x, batch.mask)
        return self.bottleneck(features, self.latent_mask(batch.mask, tuple(features.shape[2:])))

    def features(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the encoder's output [B, features, *grid] for x [B, C, *size].

        Data with bounds are scaled to [-1, 1] first.
        """
        batch = self.filled(Batch(x, mask))
        given = {} if batch.mask is None else {"mask": batch.mask}
        return self.encoder(self._scaled(batch.x), **given)

    def _scaled(self, x: Tensor) -> Tensor:
        if self._spec.bounds is None:
            return x
        low, high = self._spec.bounds
        return x if (low, high) == (-1, 1) else (2 / (high - low)) * x - (low + high) / (high - low)

    def observe(self, z: Tensor, x: Tensor | None = None, condition: Tensor | None = None) -> Observation:
        """Return p(x|z) for latents z [B, channels, *grid].

        Args:
            z: the latents.
            x: the data; an autoregressive decoder reads at each position only those before it.
            condition: the class of each example, int64 [B]; optional if there is only one class.

        Raises:
            NarrowsError: if an autoregressive decoder gets no data, or classes are missing or unknown.
        """
        # Not len(z), which would fix the batch size in an exported decoder.
        return self._observe(z, x, self.check_condition(condition, z.shape[0]))

    def _observe(
        self, z: Tensor, x: Tensor | None, condition: Tensor | None, mask: Tensor | None = None
    ) -> Observation:
        given = (condition,) if self.conditional else ()
        if not isinstance(self.decoder, AutoregressiveDecoder):
            counted = {} if mask is None else {"mask": mask}
            return self.likelihood(self.decoder(z, *given, **counted))
        if x is None:
            raise NarrowsError(
                f"a {type(self.decoder).__name__} describes each position given those before it: pass the data to "
                "observe(), or draw data with decode() or sample()"
            )
        return self.likelihood(self.decoder(z, self._levels.to_levels(x), *given))

    @property
    def _levels(self) -> DiscreteLikelihood:
        assert isinstance(self.likelihood, DiscreteLikelihood)
        return self.likelihood

    def evidence(self, batch: Batch, draw: Callable[[Posterior], Draw]) -> tuple[Posterior, Evidence]:
        """Return q(z|x) of a batch and the log-probabilities of the S latents per example that `draw` draws.

        The decoder runs once, on all S * B latents; if it learns from the first K samples only, twice, without gradient
        for the others. Only the shape of the classes is checked, because checking their values would synchronise the
        device.

        Raises:
            NarrowsError: if classes are missing or of another shape.
        """
        posterior = self.posterior(batch.x if batch.damaged is None else batch.damaged, batch.mask)
        batch = self.filled(batch)
        z, log_q, log_p, rate, statistics, layer_rates, learnt = draw(posterior)
        observation, described = self.described(batch, z[:learnt])
        log_likelihood = observation.log_prob(described.x, described.mask).view(-1, len(batch.x))
        described_at_once = len(log_likelihood) == len(z)
        if not described_at_once:
            with torch.no_grad():
                others = self.log_likelihood(batch, z[learnt:])
            log_likelihood = torch.cat([log_likelihood, others])
        evidence = Evidence(
            log_likelihood,
            log_q,
            log_p,
            rate,
            batch.x,
            observation if described_at_once else None,
            statistics,
            layer_rates,
            batch.mask,
        )
        return posterior, evidence

    def log_likelihood(self, batch: Batch, z: Tensor) -> Tensor:
        """Return log p(x|z) in nats, [S, B], of S latents per example, z [S, B, channels, *grid]."""
        observation, described = self.described(batch, z)
        return observation.log_prob(described.x, described.mask).view(z.shape[:2])

    def ratios(self, batch: Batch, posterior: Posterior, others: Tensor | None) -> dict[str, tuple[Tensor, Tensor]]:
        """Return further figures of a batch, each as (sum, count), scalars, by name.

        Args:
            batch: the examples.
            posterior: q(z|x) of these examples.
            others: the mode of q(z|x) of earlier examples, for figures that compare examples; None for none.
        """
        return {}

    def latent_mask(self, mask: Tensor | None, grid: tuple[int, ...]) -> Tensor | None:
        """Return which latents of a grid count, bool [B, *grid]: those with at least one position in the mask."""
        if mask is None:
            return None
        for axis, size in enumerate(grid, start=1):
            mask = mask.unflatten(axis, (size, -1)).any(axis + 1)
        return mask

    def described(self, batch: Batch, z: Tensor) -> tuple[Observation, Batch]:
        """Return p(x|z) of S latents per example, z [S, B, channels, *grid], and its data, repeated to [S * B, ...]."""
        condition = self._one_each(batch.condition, len(batch.x))
        repeated = self.filled(batch)._replace(condition=condition, damaged=None).repeated(len(z))
        z = z.flatten(0, 1)
        mask = self.latent_mask(repeated.mask, tuple(z.shape[2:]))
        if mask is not None:
            z = z.where(mask.unsqueeze(1), 0)
        return self._observe(z, repeated.x, repeated.condition, mask), repeated

    def filled(self, batch: Batch) -> Batch:
        """Return the batch with its first axis padded to a multiple of hop, with zeros that do not count."""
        missing = -batch.x.shape[2] % self.hop
        if not missing:
            return batch
        after = [0, 0] * (batch.x.ndim - 3) + [0, missing]
        mask = (
            batch.x.new_ones((len(batch.x), *batch.x.shape[2:]), dtype=torch.bool) if batch.mask is None else batch.mask
        )
        return batch._replace(x=F.pad(batch.x, after), mask=F.pad(mask, after))


def _settings_of(factory: Any) -> set[str]:
    """Return the argument names of a factory."""
    made = _made_by(factory)
    return set(inspect.signature(factory if made is object else made).parameters)


def _made_by(factory: Any) -> type:
    """Return the class that a factory is, or is a partial of; `object` for a function.

    The recipe parser makes a partial of its own function, with the class among the arguments.
    """
    parts = (factory, getattr(factory, "func", None), *getattr(factory, "args", ()))
    return next((part for part in parts if inspect.isclass(part)), object)
