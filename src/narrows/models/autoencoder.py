"""Autoencoders: latent variable models with methods to encode, decode, reconstruct, interpolate and sample.

The VQ-VAE (van den Oord et al. 2017) and the VAE (Kingma and Welling 2014) differ only in the bottleneck.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from narrows.bottlenecks import DiscreteBottleneck
from narrows.errors import NarrowsError
from narrows.likelihoods import Observation
from narrows.models.drawing import draw_levels
from narrows.models.latent import LatentVariableModel
from narrows.networks import AutoregressiveDecoder
from narrows.priors import Condition, sample
from narrows.sampling import Sampling
from narrows.tracing import is_traced

__all__ = ["Autoencoder", "lines", "require_tensor"]

MARGIN = 1e-4
"""Tolerance beyond the bounds of the data, for rounding errors of earlier scaling."""
AT_ONCE = 64
"""Largest number of examples of one size that are encoded or decoded together."""

Progress = Callable[[int, int], None]


class Autoencoder(LatentVariableModel):
    """p(x|z), q(z|x) and p(z) over data x [B, C, *size]; see `LatentVariableModel` for its parts."""

    stages: ClassVar[int] = 1
    """Number of stages: 2 for a model upon another, its `first`."""

    shares_data: ClassVar[bool] = False
    """Whether the first stage must have been trained on the same data, with the same examples held out."""

    @property
    def first(self) -> Autoencoder:
        """The first stage of a two-stage model.

        Raises:
            NarrowsError: if the model has one stage.
        """
        raise NarrowsError(f"a {type(self).__name__} has one stage")

    @property
    def informed(self) -> bool:
        """Whether what it samples depends on a class: the decoder or the learned prior is conditioned on it."""
        return self.conditional or (self.prior is not None and self.prior.classes > 0)

    def attach_to(self, first: Autoencoder) -> None:
        """Use `first` as the first stage.

        Raises:
            NarrowsError: if the model has one stage.
        """
        raise NarrowsError(f"a {type(self).__name__} has one stage; train a two-stage recipe, such as hvae-second")

    def refine(self, known: Tensor) -> Observation:
        """Return p(x|z2, x') for samples x' of the first stage.

        Raises:
            NarrowsError: if the model has one stage.
        """
        raise NarrowsError(f"a {type(self).__name__} has one stage")

    def check_data(self, x: Tensor) -> Tensor:
        """Return x in the type of the weights, after checking it; used by the methods for a user's own data.

        Raises:
            NarrowsError: if x is not finite floats [B, C, *size] within the bounds of the data, if they have any.
        """
        require_tensor(x)
        if is_traced():
            return x
        own = (self.shape[0], x.shape[2] if self.variable and x.ndim > 2 else self.shape[1], *self.shape[2:])
        if x.ndim < 2 or x.shape[1:] != own or not x.shape[2]:
            wanted = ["B", self.shape[0], "T" if self.variable else self.shape[1], *self.shape[2:]]
            raise NarrowsError(
                f"x must have the shape {_listed(wanted)}, not {list(x.shape)}: the `read` of the data's modality "
                "converts files to the model's input"
            )
        return self._check_range(x)

    def _check_range(self, x: Tensor) -> Tensor:
        if self._spec.bounds is None:
            return self._check_finite(x)
        low, high = self._spec.bounds
        if not x.is_floating_point():
            raise NarrowsError(f"x must be floats in [{low:g}, {high:g}], not {x.dtype}: scale integer levels to them")
        # NaN fails both comparisons.
        if not ((x >= low - MARGIN) & (x <= high + MARGIN)).all():
            raise NarrowsError(
                f"x must be in [{low:g}, {high:g}], but it ranges from {x.min():g} to {x.max():g}: scale it, "
                "clamp it, or look for NaN in it"
            )
        return x.to(next(self.parameters()).dtype)

    def _check_finite(self, x: Tensor) -> Tensor:
        if not x.is_floating_point():
            raise NarrowsError(f"x must be floats, not {x.dtype}: convert it with x.float()")
        if not x.isfinite().all():
            raise NarrowsError("x must be finite, but it has NaN or infinite values")
        return x.to(next(self.parameters()).dtype)

    def check_latents(self, codes: Tensor) -> Tensor:
        """Return codes, or mean latents of a continuous model, after checking that they look like those of `encode`.

        Raises:
            NarrowsError: if they have another number of dimensions.
        """
        require_tensor(codes)
        grid = ["N", *self.grid[1:]] if self.variable else list(self.grid)
        wanted = ["B", *(["C"] if not self.discrete else []), *grid]
        wanted += [self.codes.codebooks] if self.discrete and self.codes.codebooks > 1 else []
        if codes.ndim != len(wanted):
            raise NarrowsError(f"codes must have the shape {_listed(wanted)}, not {list(codes.shape)}")
        return codes

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Return the codes of x [B, C, *size]: int64 [B, *grid] or [B, *grid, M]; a VAE's mean latent [B, C, *grid].

        Raises:
            NarrowsError: if x has another shape, or values that are not finite or out of bounds.
        """
        posterior = self.posterior(self.check_data(x))
        return posterior.mode if posterior.codes is None else posterior.codes

    def encode_all(self, examples: Sequence[Tensor]) -> list[Tensor]:
        """Return the codes of each of `examples`, [C, *size], as `encode` does; each is independent of the others."""
        return [codes for batch in _by_size(examples) for codes in self.encode(batch)]

    def decode(
        self,
        codes: Tensor,
        condition: Tensor | None = None,
        sampling: Sampling | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Return data [B, C, *size] for codes as `encode` returns them, of any integer type.

        The data are the mean of p(x|z), or are drawn from it by an autoregressive decoder. Each example then has its
        own random numbers, so the first ones do not depend on how many examples follow or how long they are.

        Args:
            codes: int64 [B, *grid], or [B, *grid, M]; mean latents [B, C, *grid] of a continuous model.
            condition: the class of each example, int64 [B], for a decoder conditioned on it.
            sampling: how an autoregressive decoder draws; it has no effect on others.
            progress: called with the number of positions drawn and the total.

        Raises:
            NarrowsError: if the classes are missing or unknown.
        """
        return self.decode_latents(self._embed(self.check_latents(codes)), condition, sampling, progress)

    def decode_all(
        self,
        codes: Sequence[Tensor],
        condition: Tensor | None = None,
        sampling: Sampling | None = None,
        progress: Progress | None = None,
    ) -> list[Tensor]:
        """Return data [C, *size] for each of several codes, each [*grid] or [*grid, M] (latents [C, *grid]).

        An autoregressive decoder draws all of them at once, with zeros after the last latent of an example, as when it
        is decoded alone. Any other decoder processes those of equal size together.
        """
        if not codes:
            return []
        given = self.check_condition(condition, len(codes))
        if not self.autoregressive:
            batches = list(_by_size(codes))
            classes = [None] * len(batches) if given is None else given.split([len(batch) for batch in batches])
            return [
                x
                for batch, own in zip(batches, classes, strict=True)
                for x in self.decode_latents(self._embed(batch), own)
            ]
        latents = [self._embed(part.unsqueeze(0))[0] for part in codes]
        longest = max(z.shape[1] for z in latents)
        filled = torch.stack([F.pad(z, (0, longest - z.shape[1])) for z in latents])
        data = self.decode_latents(filled, given, sampling, progress)
        return [x[:, : z.shape[1] * self.hop] for x, z in zip(data, latents, strict=True)]

    @torch.no_grad()
    def decode_latents(
        self,
        z: Tensor,
        condition: Tensor | None = None,
        sampling: Sampling | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Return the mean of p(x|z), or a draw from it by an autoregressive decoder, [B, C, *size].

        Args:
            z: the latents that the decoder reads, [B, channels, *grid]; `decode` takes codes instead.
            condition: the class of each example, as for `decode`.
            sampling: how an autoregressive decoder draws.
            progress: called with the number of positions drawn and the total.
        """
        if not isinstance(self.decoder, AutoregressiveDecoder):
            return self.observe(z, None, condition).mean
        given, length = self.check_condition(condition, len(z)), z.shape[2] * self.hop
        levels = draw_levels(self.decoder, self._levels, z, given, length, sampling or Sampling(), progress)
        return self._levels.to_values(levels)

    def _embed(self, codes: Tensor) -> Tensor:
        """Return the latents of codes of any integer type, such as the small types of files."""
        return self.bottleneck.embed(codes) if isinstance(self.bottleneck, DiscreteBottleneck) else codes

    def reconstruct(
        self,
        x: Tensor,
        condition: Tensor | None = None,
        sampling: Sampling | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Return `decode(encode(x))`, cut to the length of x; for the arguments see `decode`."""
        with torch.no_grad():
            z = self.posterior(self.check_data(x)).mode
        return self.decode_latents(z, condition, sampling, progress)[:, :, : x.shape[2]]

    def versions(self, x: Tensor) -> dict[str, Tensor]:
        """Return reconstructions of x [B, C, *size] by name, for a report; several if they are draws."""
        return {"reconstruction": self.reconstruct(x)}

    def interpolate(
        self,
        start: Tensor,
        end: Tensor,
        steps: int,
        condition: Tensor | None = None,
        sampling: Sampling | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Decode `steps` (T) points on the line between the features of two batches of one size: [B, T, C, *size].

        Discrete codes are computed from the interpolated features, so the ends are the two reconstructions.

        Args:
            start: x of the first points.
            end: x of the last points.
            steps: T.
            condition: the class of each example, int64 [B], as for `decode`.
            sampling: how an autoregressive decoder draws.
            progress: called with the number of positions drawn and the total.
        """
        with torch.no_grad():
            path = lines(self.features(self.check_data(start)), self.features(self.check_data(end)), steps)
            z = self.bottleneck(path.flatten(0, 1)).mode
        condition = self.check_condition(condition, len(start))
        given = None if condition is None else condition.repeat_interleave(steps)
        return self.decode_latents(z, given, sampling, progress)[:, :, : start.shape[2]].unflatten(0, path.shape[:2])

    def sample(
        self,
        n: int,
        condition: Tensor | None = None,
        sampling: Sampling | None = None,
        decoding: Sampling | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Draw n examples [n, C, *size], with latents from the learned prior, or the fixed one if there is none.

        The examples are the means of p(x|z), or are drawn from it by an autoregressive decoder.

        Args:
            n: number of examples.
            condition: the class of each example, int64 [n]; None draws classes uniformly.
            sampling: how codes are drawn from a learned prior.
            decoding: how an autoregressive decoder draws; without a seed it continues with the generator of `sampling`.
            progress: called with the number of codes (of positions, for an autoregressive decoder) done and the total.
        """
        if not self.autoregressive:
            return self.generate(n, condition, sampling, progress).mean
        stream = replace(sampling or Sampling(), seed=(sampling or Sampling()).generator)
        z, condition = self.sample_latents(n, condition, stream, None)
        decoding = decoding or Sampling()
        if decoding.seed is None:
            decoding = replace(decoding, seed=stream.seed)
        return self.decode_latents(z, condition, decoding, progress)

    @torch.no_grad()
    def generate(
        self,
        n: int,
        condition: Tensor | None = None,
        sampling: Sampling | None = None,
        progress: Progress | None = None,
    ) -> Observation:
        """Return p(x|z) for n latents drawn as in `sample`: its `mean` is the sample, its `sample()` draws data.

        Raises:
            NarrowsError: if the decoder is autoregressive, because it can only draw position by position.
        """
        z, condition = self.sample_latents(n, condition, sampling or Sampling(), progress)
        return self.observe(z, None, condition)

    @torch.no_grad()
    def sample_latents(
        self, n: int, condition: Tensor | None, sampling: Sampling, progress: Progress | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Draw latents [n, channels, *grid] from the prior, and return them with their classes.

        A learned prior conditioned on features of each position is given zeros, which stand for unknown features.
        """
        if n < 1:
            raise NarrowsError(f"n is {n}: it must be at least 1")
        stream = replace(sampling, seed=sampling.generator)
        if condition is None and self.informed and self.classes:
            source = "cpu" if stream.generator is None else stream.generator.device
            condition = torch.randint(len(self.classes), (n,), generator=stream.generator, device=source)
        if self.prior is None:
            return self.bottleneck.sample_prior(n, self.grid), condition
        weight = next(self.prior.parameters())
        labels = condition.to(weight.device) if self.prior.classes and condition is not None else None
        unknown = weight.new_zeros(n, self.prior.channels, *[1] * len(self.prior.grid)) if self.prior.channels else None
        codes = sample(self.prior, n, Condition(labels, unknown), stream, progress=progress)
        return self._embed(codes), condition


def require_tensor(x: object) -> None:
    """Check that x is a tensor and not an array of another library.

    Raises:
        NarrowsError: if x is not a tensor.
    """
    if not isinstance(x, Tensor):
        raise NarrowsError(f"expected a torch.Tensor, not a {type(x).__name__}: use torch.from_numpy")


def lines(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Return T = `steps` points on the line from each row of `start` to that of `end`, [B, ...]: [B, T, ...]."""
    weights = torch.linspace(0, 1, steps, device=start.device).view(-1, *[1] * (start.dim() - 1))
    return torch.lerp(start.unsqueeze(1), end.unsqueeze(1), weights)


def _by_size(examples: Sequence[Tensor]) -> Iterator[Tensor]:
    """Yield stacks of adjacent examples of one size, at most `AT_ONCE` each."""
    for _, group in groupby(examples, key=lambda x: x.shape):
        yield from torch.stack(list(group)).split(AT_ONCE)


def _listed(shape: Sequence[object]) -> str:
    return f"[{', '.join(map(str, shape))}]"
