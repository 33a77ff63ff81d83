"""An autoencoder of sound, of any length: x -> q(z|x) -> p(x|z, s), s the speaker (van den Oord et al. 2017, 4.3).

With a WaveNet for a decoder p(x|z, s) = prod_t p(x_t|x_<t, z, s) over the mu-law levels of the samples, and sound is
drawn sample by sample; any other decoder describes all samples at once. Given the codes of one speaker's words and
another speaker, what is drawn are these words in the other's voice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from narrows.bottlenecks import Bottleneck, Draw, Posterior
from narrows.data import SoundSpec
from narrows.errors import NarrowsError
from narrows.estimators import Evidence
from narrows.likelihoods import Likelihood, MuLawCategorical, Observation, mu_law_decode, mu_law_encode
from narrows.models.autoencoder import Autoencoder, lines, require_tensor
from narrows.models.levels import draw_levels
from narrows.networks import WaveNetDecoder
from narrows.priors import CodeSpec, sample

__all__ = ["SoundAutoencoder"]


class SoundAutoencoder(Autoencoder):
    """p(x|z, s), q(z|x) and p(z) over mono sound x [B, 1, T] in [-1, 1].

    Args:
        sound: the sound it is made for.
        encoder: makes the network from 1 channel to the features that the bottleneck reads.
        bottleneck: features -> q(z|x).
        decoder: makes the decoder from z to the channels that the likelihood reads, for so many speakers and so many
            samples of a latent.
        likelihood: makes the observation model of 1 channel.

    Attributes:
        hop: the samples of a latent.
        sample_rate: samples a second.
        classes: the names of the speakers.

    Raises:
        NarrowsError: if the window is no multiple of the encoder's hop, or a WaveNet does not meet mu-law levels.
    """

    bounds = (-1.0, 1.0)

    def __init__(
        self,
        sound: SoundSpec,
        encoder: Callable[[int, int], nn.Module],
        bottleneck: Bottleneck,
        decoder: Callable[[int, int, int, int], nn.Module],
        likelihood: Callable[[int], Likelihood],
    ) -> None:
        if not isinstance(sound, SoundSpec):
            raise NarrowsError(
                "SoundAutoencoder models sound: train it on a folder of sound, with data of SoundSettings"
            )

        def told(latents: int, outputs: int) -> nn.Module:
            return decoder(latents, outputs, len(sound.speakers), self.hop)

        self.sample_rate = sound.sample_rate
        super().__init__((1, sound.window), encoder, bottleneck, told, likelihood)
        self.classes = list(sound.speakers)
        if isinstance(self.decoder, WaveNetDecoder) and not isinstance(self.likelihood, MuLawCategorical):
            raise NarrowsError(
                f"a WaveNet draws levels, which {type(self.likelihood).__name__} has none of: set "
                "model.likelihood=MuLawCategorical"
            )

    def _traced_grid(self) -> tuple[int, ...]:
        window, rest = divmod(self.shape[1], self.hop)
        if rest:
            raise NarrowsError(
                f"data.window is {self.shape[1]}, no multiple of the {self.hop} samples that the encoder's strides "
                f"make a code of: set it to {(window + 1) * self.hop}"
            )
        return (window,)

    @property
    def hop(self) -> int:
        """The samples of a latent."""
        hop = getattr(self.encoder, "hop", None)
        if not isinstance(hop, int):
            raise NarrowsError(
                f"{type(self.encoder).__name__} is no encoder of sound: use StridedEncoder or SpectrogramEncoder"
            )
        return hop

    @property
    def spec(self) -> SoundSpec:
        """The sound it was made for."""
        return SoundSpec(self.sample_rate, self.shape[1], tuple(self.classes))

    @property
    def sampled(self) -> int:
        """The samples of a sound that `sample` draws."""
        return self.hop * (self.grid if self.prior is None else self.prior.grid)[0]

    def takes(self, spec: CodeSpec) -> bool:
        """Whether a prior over codes of that specification is one over this model's, whose windows may be longer."""
        return spec == self.codes_of(spec.grid[0])

    def codes_of(self, length: int) -> CodeSpec:
        """What a prior over windows of `length` codes needs to know of them."""
        own = self.codes
        return CodeSpec((length,), own.codebooks, own.codebook_size, own.classes)

    def check_data(self, x: Tensor) -> Tensor:
        """Return x, sound of any length, as the methods for sound of a user's own read it.

        Raises:
            NarrowsError: if it is not floats [B, 1, T] within [-1, 1].
        """
        self._check_sound(x)
        return self._check_range(x)

    def _check_sound(self, x: Tensor) -> None:
        require_tensor(x)
        if x.ndim != 3 or x.shape[1] != 1 or not x.shape[2]:
            raise NarrowsError(f"sound must have the shape [B, 1, T], mono and not empty, not {list(x.shape)}")

    def features(self, x: Tensor) -> Tensor:
        """The encoder's output [B, features, N] for x [B, 1, T]: T is filled up with silence to N hop samples.

        Raises:
            NarrowsError: if x has another shape.
        """
        self._check_sound(x)
        return self.encoder(F.pad(x, (0, -x.shape[2] % self.hop)))

    def observe(self, z: Tensor, x: Tensor | None = None, speakers: Tensor | None = None) -> Observation:
        """p(x|z, s) for latents z [B, channels, N] and speakers [B], over N hop samples.

        Args:
            z: the latents.
            x: the sound itself, [B, 1, N hop], of which a WaveNet reads at each sample those before.
            speakers: who speaks, int64 [B]; may be left out where there is one.

        Raises:
            NarrowsError: if a WaveNet is not given the sound, or the speakers are missing or unknown.
        """
        return self._describe(z, x, self._check_speakers(speakers, len(z)))

    def _describe(self, z: Tensor, x: Tensor | None, told: Tensor) -> Observation:
        if not isinstance(self.decoder, WaveNetDecoder):
            return self.likelihood(self.decoder(z, told))
        if x is None:
            raise NarrowsError(
                "what a WaveNet says of a sample takes those before it: give observe() the sound, or draw one with "
                "decode() or sample()"
            )
        return self.likelihood(self.decoder(z, mu_law_encode(x, self._levels).squeeze(1), told))

    def evidence(
        self,
        x: Tensor,
        draw: Callable[[Posterior], Draw],
        speakers: Tensor | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Posterior, Evidence]:
        """q(z|x) of x [B, 1, T], and the log-probabilities of the S latents of each example that `draw` draws.

        Args:
            x: the sound.
            draw: draws the latents.
            speakers: who speaks, int64 [B].
            lengths: how many samples of each example are real and count, int64 [B]; None for all.
        """
        posterior = self.posterior(x)
        z, log_q, log_p, rate, statistics, layer_rates = draw(posterior)
        filled = F.pad(x, (0, -x.shape[2] % self.hop))
        real = torch.full((len(x),), x.shape[2], device=x.device) if lengths is None else lengths
        counted = torch.arange(filled.shape[2], device=x.device) < real.unsqueeze(1)

        def repeated(of_each: Tensor) -> Tensor:
            return of_each.expand(len(z), *of_each.shape).flatten(0, 1)

        told = repeated(self._check_speakers(speakers, len(x)))
        observation = self._describe(z.flatten(0, 1), repeated(filled), told)
        log_likelihood = observation.log_prob(repeated(filled), repeated(counted)).view(log_q.shape)
        evidence = Evidence(log_likelihood, log_q, log_p, rate, filled, observation, statistics, layer_rates)
        return posterior, evidence

    def decode(
        self,
        codes: Tensor,
        speakers: Tensor | None = None,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """The sound [B, 1, N hop] of what `encode` returns: drawn by a WaveNet, and else the mean of p(x|z, s).

        A WaveNet draws each sound by random numbers of its own: the first are the same however many follow, and however
        long these are.

        Args:
            codes: int64 [B, N], or [B, N, M]; the mean latents [B, C, N] of a VAE.
            speakers: who is to speak, int64 [B].
            temperature: divides the logits of a WaveNet's levels.
            generator: the source of a WaveNet's random numbers; by default the CPU's global one.
            progress: called with the samples done and the samples in all, of each sound.

        Raises:
            NarrowsError: if the speakers are missing or unknown, or the temperature is not above 0.
        """
        return self._sound(self._embed(self.check_latents(codes)), speakers, temperature, generator, progress)

    def samples_of(self, latents: Tensor) -> int:
        """How many samples the sound of codes [N] or [N, M], or of mean latents [C, N], has."""
        return (len(latents) if self.discrete else latents.shape[1]) * self.hop

    def decode_all(
        self,
        codes: Sequence[Tensor],
        speakers: Tensor | None = None,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Tensor]:
        """The sounds, each float [T], of codes of different lengths, each [N] or [N, M] (latents [C, N]); see `decode`.

        A WaveNet draws all at once: as far as a sound's own samples go, the latents after its last are zeros, as they
        are to a sound alone. Any other decoder, cheap by itself, takes them one after another.
        """
        told = self._check_speakers(speakers, len(codes))
        latents = [self._embed(part.unsqueeze(0))[0] for part in codes]
        if not (latents and isinstance(self.decoder, WaveNetDecoder)):
            return [self._sound(z.unsqueeze(0), one.view(1))[0, 0] for z, one in zip(latents, told, strict=True)]
        longest = max(z.shape[1] for z in latents)
        filled = torch.stack([F.pad(z, (0, longest - z.shape[1])) for z in latents])
        sounds = self._sound(filled, told, temperature, generator, progress)
        return [sound[0, : z.shape[1] * self.hop] for sound, z in zip(sounds, latents, strict=True)]

    def reconstruct(
        self,
        x: Tensor,
        speakers: Tensor | None = None,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """The sound of the codes of x [B, 1, T], as long as x; spoken by `speakers`, whoever spoke x: see `decode`."""
        with torch.no_grad():
            z = self.posterior(self.check_data(x)).mode
        return self._sound(z, speakers, temperature, generator, progress)[..., : x.shape[2]]

    def interpolate(self, start: Tensor, end: Tensor, steps: int, speakers: Tensor | None = None) -> Tensor:
        """Decode `steps` (T) points on the line between the features of two batches of sounds of one length."""
        with torch.no_grad():
            path = lines(self.features(self.check_data(start)), self.features(self.check_data(end)), steps)
            z = self.bottleneck(path.flatten(0, 1)).mode
        told = self._check_speakers(speakers, len(start)).repeat_interleave(steps)
        return self._sound(z, told)[..., : start.shape[2]].unflatten(0, path.shape[:2])

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
        """N sounds [n, 1, T] of codes drawn from the prior, the learned one or, where none was fitted, the fixed one.

        Args:
            n: the number of sounds.
            labels: who speaks, int64 [n]; None draws the speakers uniformly.
            temperature: divides the logits of a learned prior.
            top_k: only the k most probable values of each code.
            top_p: only the most probable values of each code that together reach this probability.
            generator: the source of randomness of the learned prior, and of a WaveNet.
            progress: called with the samples done and the samples in all, of each sound.
        """
        if n < 1:
            raise NarrowsError(f"n is {n}: it must be at least 1")
        if labels is None:
            source = "cpu" if generator is None else generator.device
            labels = torch.randint(len(self.classes), (n,), generator=generator, device=source)
        if self.prior is None:
            z = self.bottleneck.sample_prior(n, self.grid)
        else:
            given = labels.to(next(self.parameters()).device) if self.prior.classes else None
            z = self._embed(sample(self.prior, n, given, temperature, top_k, top_p, generator))
        return self._sound(z, labels, generator=generator, progress=progress)

    def _observe_drawn(self, z: Tensor, labels: Tensor | None) -> Observation:
        return self.observe(z, speakers=labels)

    @property
    def _levels(self) -> int:
        return self.likelihood.features

    @torch.no_grad()
    def _sound(
        self,
        z: Tensor,
        speakers: Tensor | None,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """The sound [B, 1, N hop] of latents z [B, channels, N]."""
        told = self._check_speakers(speakers, len(z))
        if not isinstance(self.decoder, WaveNetDecoder):
            return self.likelihood(self.decoder(z, told)).mean
        levels = draw_levels(self.decoder, z, told, z.shape[2] * self.hop, temperature, generator, progress)
        return mu_law_decode(levels, self._levels).unsqueeze(1)

    def _check_speakers(self, speakers: Tensor | None, batch: int) -> Tensor:
        """The speakers, int64 [`batch`].

        Raises:
            NarrowsError: if they are missing, of another shape or unknown.
        """
        device = next(self.parameters()).device
        if speakers is None:
            if len(self.classes) > 1:
                raise NarrowsError(f"say who speaks, of the {len(self.classes)} speakers {', '.join(self.classes)}")
            return torch.zeros(batch, dtype=torch.long, device=device)
        if speakers.shape != (batch,):
            raise NarrowsError(
                f"speakers must have the shape [{batch}], one for each sound, not {list(speakers.shape)}"
            )
        if speakers.numel() and not -1 <= int(speakers.min()) <= int(speakers.max()) < len(self.classes):
            raise NarrowsError(
                f"speakers are numbers below {len(self.classes)}, or -1 for one unknown, not {speakers.tolist()}"
            )
        return speakers.long().to(device)
