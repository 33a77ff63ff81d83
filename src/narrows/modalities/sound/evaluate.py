"""Figures that `narrows evaluate` computes for sound only: phonemes from codes, and spectra of reconstructions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from narrows.data import Data, Examples
from narrows.errors import NarrowsError
from narrows.modalities.sound.clips import Clips
from narrows.modalities.sound.dataset import SoundData
from narrows.modalities.sound.mel import log_mel_distance
from narrows.modalities.sound.phonemes import learn_phonemes, measure_foreign_phonemes, phonemes_file
from narrows.models import Autoencoder
from narrows.progress import Progress, drawing, hidden
from narrows.sampling import Sampling
from narrows.training.run import RunFolder

__all__ = ["decode_sounds", "evaluate_sound", "in_random_order", "measure_reconstructions"]


def evaluate_sound(
    run: RunFolder,
    model: Autoencoder,
    data: Data,
    examples: Examples,
    source: str | None,
    progress: Progress,
    phonemes: Path | None = None,
    reconstruct: int | None = None,
) -> dict[str, float]:
    """Return the requested figures.

    Args:
        run: the run.
        model: its model.
        data: the data to evaluate.
        examples: the clips of the split to evaluate.
        source: a source other than the run's own; None for the run's own.
        progress: shows how far the work is.
        phonemes: the table of the clips' phonemes; None skips the phoneme figures.
        reconstruct: number of clips to decode; None decodes none.

    Raises:
        NarrowsError: if a table does not fit the clips, or there are no clips to decode.
    """
    assert isinstance(data, SoundData)
    assert isinstance(examples, Clips)
    figures: dict[str, float] = {}
    if phonemes is not None:
        if source is None:
            found = learn_phonemes(model, str(run.path), data, phonemes, progress)
            found.write(phonemes_file(run))
        else:
            found = measure_foreign_phonemes(model, str(run.path), examples, phonemes, progress)
        figures |= found.named_figures
    if reconstruct is not None:
        figures |= measure_reconstructions(model, examples.subset(reconstruct), progress)
    return figures


@torch.no_grad()
def measure_reconstructions(model: Autoencoder, clips: Clips, progress: Progress = hidden) -> dict[str, float]:
    """Return the distance from the clips of the sounds decoded from their codes, and from shuffled codes.

    Args:
        model: in evaluation mode, as `load` returns it.
        clips: the clips, labelled by the model's classes; clips of unknown speakers are left out.
        progress: shows how far the work is.

    Returns:
        `log_mel_db` and `log_mel_shuffled_db`, the mean `log_mel_distance` over the clips for their codes and for the
        same codes in random order; `reconstructed`, the number of clips.

    Raises:
        NarrowsError: if there are no clips of speakers that the model knows.
    """
    known = [index for index in range(len(clips)) if clips.labels[index] >= 0]
    if not known:
        raise NarrowsError("there are no clips of speakers that the model knows: this split has none to reconstruct")
    device = next(model.parameters()).device
    speakers = [int(clips.labels[index]) for index in known]
    codes = model.encode_all([clips[index].to(device) for index in known])
    sounds = decode_sounds(model, [*codes, *in_random_order(codes)], 2 * speakers, progress)
    rate = int(model.spec.rate or 0)
    distances = [
        log_mel_distance(clips.clip(index), sound[: clips.lengths[index]], rate)
        for index, sound in zip(2 * known, sounds, strict=True)
    ]
    kept, lost = distances[: len(known)], distances[len(known) :]
    return {
        "log_mel_db": sum(kept) / len(known),
        "log_mel_shuffled_db": sum(lost) / len(known),
        "reconstructed": len(known),
    }


def in_random_order(codes: Sequence[Tensor]) -> list[Tensor]:
    """Return codes [N] or [N, M], or latents [C, N], each with its positions in a fixed random order."""
    generator = torch.Generator().manual_seed(0)

    def shuffled(part: Tensor) -> Tensor:
        axis = int(part.is_floating_point())
        return part.index_select(axis, torch.randperm(part.shape[axis], generator=generator).to(part.device))

    return [shuffled(part) for part in codes]


def decode_sounds(
    model: Autoencoder, codes: Sequence[Tensor], speakers: Sequence[int], progress: Progress
) -> list[Tensor]:
    """Return the sound [T] of each pair of codes and speaker, on the CPU; drawn with seed 0."""
    longest = max(part.shape[0 if model.discrete else 1] for part in codes) * model.hop
    with drawing(progress, "decode", len(codes), longest, model.spec.rate) as advance:
        made = model.decode_all(codes, torch.tensor(speakers), Sampling(seed=0), advance)
    return [sound[0].cpu() for sound in made]
