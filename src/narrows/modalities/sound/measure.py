"""What a model of sound costs and loses: bits for every sample of whole clips, split into rate and distortion."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence

import torch

from narrows.bottlenecks import CodePosterior, Posterior
from narrows.bottlenecks.posterior import Draw
from narrows.bottlenecks.usage import count, usage_statistics
from narrows.errors import NarrowsError
from narrows.evaluation.bits import Measurement
from narrows.modalities.sound.clips import Clips
from narrows.modalities.sound.mel import log_mel_distance
from narrows.models import SoundAutoencoder
from narrows.priors import Prior
from narrows.progress import sound_progress

__all__ = ["decode_shown", "in_random_order", "measure_reconstructions", "measure_sound", "speakers_of"]


def speakers_of(model: SoundAutoencoder, clips: Clips) -> torch.Tensor:
    """Who speaks in each clip as the model knows them, int64 [N]; -1 where it never heard them in training."""
    numbers = {name: number for number, name in enumerate(model.classes)}
    return torch.tensor([numbers.get(clips.speaker_names[speaker], -1) for speaker in clips.speakers])


@torch.no_grad()
def measure_sound(
    model: SoundAutoencoder, clips: Clips, advance: Callable[[int], None] = lambda n: None
) -> Measurement:
    """Measure `model` on whole clips, one after another, each sample given those before where a WaveNet decodes.

    The draws are a fixed function of the data, and training's own are left alone.

    Args:
        model: put into evaluation mode while it is measured.
        clips: the data.
        advance: called with the number of clips done.

    Returns:
        figures over all samples alike: `bits_per_dim` and its parts `rate_bits_per_dim`, under the fixed prior, and
        `distortion_bits_per_dim`; `bits_per_second` of the rate; where a prior is fitted `prior_rate_bits_per_dim`, of
        its windows one after another and codes of the fixed prior for what they leave of a clip, and
        `prior_bits_per_dim`; `perplexity` and `usage` of the codes.

    Raises:
        NarrowsError: if there are no clips.
    """
    if not len(clips):
        raise NarrowsError("there are no clips to measure: this split of the data is empty")
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    totals: dict[str, float] = defaultdict(float)
    counts = None
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        for index, speaker in enumerate(speakers_of(model, clips)):
            x = clips.clip(index).to(device).view(1, 1, -1)
            posterior, evidence = model.evidence(x, lambda posterior: posterior.draw(), speaker.view(1))
            totals["rate_bits_per_dim"] += evidence.rate.sum().item()
            totals["distortion_bits_per_dim"] -= evidence.log_likelihood.sum().item()
            if posterior.codes is not None and model.prior is not None:
                totals["prior_rate_bits_per_dim"] += _prior_rate(model, model.prior, posterior.codes[0], int(speaker))
                if not isinstance(posterior, CodePosterior):
                    # The codes are the mode, not those drawn: the bound is that of an encoder with all its mass there.
                    _, evidence = model.evidence(x, _at_the_mode, speaker.view(1))
                totals["prior_bits_per_dim"] -= evidence.log_likelihood.sum().item()
            if posterior.codes is not None:
                codes = posterior.codes.reshape(-1, model.codes.codebooks)
                clip_counts = count(codes, model.codes.codebook_size).double()
                counts = clip_counts if counts is None else counts + clip_counts
            advance(1)
    model.train(training)
    parts = {name: nats / (clips.lengths.sum().item() * math.log(2)) for name, nats in totals.items()}
    figures = {"bits_per_dim": parts["rate_bits_per_dim"] + parts["distortion_bits_per_dim"], **parts}
    if "prior_rate_bits_per_dim" in parts:
        figures["prior_bits_per_dim"] += parts["prior_rate_bits_per_dim"]
    figures["bits_per_second"] = parts["rate_bits_per_dim"] * model.sample_rate
    if counts is not None:
        figures |= {name: value.item() for name, value in usage_statistics(counts).items()}
    return Measurement(figures, counts, {})


def _at_the_mode(posterior: Posterior) -> Draw:
    return posterior.draw()._replace(z=posterior.mode.unsqueeze(0))


def _prior_rate(model: SoundAutoencoder, prior: Prior, codes: torch.Tensor, speaker: int) -> float:
    """Nats of codes [N] or [N, M] by windows of the prior, and by the uniform one where no whole window is left.

    A conditional prior knows the speakers of training alone: the codes of any other have the uniform one.
    """
    (length,) = prior.grid
    count = 0 if speaker < 0 and prior.classes else len(codes) // length
    nats = (codes.numel() - count * prior.length) * math.log(prior.codebook_size)
    if count:
        windows = codes[: count * length].unflatten(0, (count, length))
        labels = torch.full((count,), speaker, device=codes.device) if prior.classes else None
        nats -= prior.log_prob(windows, labels).sum().item()
    return nats


def in_random_order(codes: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Each of the codes [N] or [N, M], or latents [C, N], with its positions in a random order, the same every time."""
    generator = torch.Generator().manual_seed(0)

    def shuffled(part: torch.Tensor) -> torch.Tensor:
        axis = int(part.is_floating_point())
        return part.index_select(axis, torch.randperm(part.shape[axis], generator=generator).to(part.device))

    return [shuffled(part) for part in codes]


def decode_shown(
    model: SoundAutoencoder,
    codes: Sequence[torch.Tensor],
    speakers: Sequence[int],
    temperature: float = 1.0,
    seed: int = 0,
) -> list[torch.Tensor]:
    """The sound [T] of each of the codes by each of the speakers, on the CPU, with a bar of the seconds done."""
    generator, told = torch.Generator().manual_seed(seed), torch.tensor(speakers, dtype=torch.long)
    with sound_progress("decode", len(codes), max(map(model.samples_of, codes)), model.sample_rate) as advance:
        return [sound.cpu() for sound in model.decode_all(codes, told, temperature, generator, advance)]


@torch.no_grad()
def measure_reconstructions(model: SoundAutoencoder, clips: Clips) -> dict[str, float]:
    """How far the sounds decoded from codes are from the clips, and how far those of the codes in random order.

    Args:
        model: put into evaluation mode, as `load` does.
        clips: the data; clips of speakers that the model does not know are left out.

    Returns:
        `log_mel_db` and `log_mel_shuffled_db`, means over the clips of `log_mel_distance`; `reconstructed`, how many.

    Raises:
        NarrowsError: if there is no such clip.
    """
    speakers = speakers_of(model, clips).tolist()
    known = [index for index in range(len(clips)) if speakers[index] >= 0]
    if not known:
        raise NarrowsError("there are no clips of speakers that the model knows: this split has none to reconstruct")
    device = next(model.parameters()).device
    codes = [model.encode(clips.clip(index).to(device).view(1, 1, -1))[0] for index in known]
    sounds = decode_shown(model, [*codes, *in_random_order(codes)], 2 * [speakers[index] for index in known])
    distances = [
        log_mel_distance(clips.clip(index), sound[: clips.lengths[index]], model.sample_rate)
        for index, sound in zip(2 * known, sounds, strict=True)
    ]
    kept, lost = distances[: len(known)], distances[len(known) :]
    return {
        "log_mel_db": sum(kept) / len(known),
        "log_mel_shuffled_db": sum(lost) / len(known),
        "reconstructed": len(known),
    }
