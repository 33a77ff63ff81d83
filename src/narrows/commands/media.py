"""Codes, reconstructions and samples as files, of images or of sound: whichever the run's model is of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from narrows.commands.generate import sample_images
from narrows.commands.source import open_run
from narrows.errors import NarrowsError
from narrows.modalities.images.transcode import decode_images, encode_images, reconstruct_images
from narrows.modalities.sound.transcode import decode_sounds, encode_sounds, reconstruct_sounds, sample_sounds
from narrows.models import SoundAutoencoder
from narrows.pretrained import load

__all__ = ["decode", "encode", "reconstruct", "sample"]


def encode(folder: str, files: Sequence[Path], out: Path) -> np.ndarray:
    """Write the codes of files to `out`, an .npz; see `encode_images` and `encode_sounds`."""
    model = load(folder)
    if isinstance(model, SoundAutoencoder):
        return encode_sounds(folder, model, files, out)
    return encode_images(folder, model, files, out)


def decode(
    folder: str, codes: Path, speaker: str | None, temperature: float | None, seed: int | None, out: Path
) -> list[Path]:
    """Write the files of a file of codes into the folder `out`; see `decode_images` and `decode_sounds`."""
    model = load(folder)
    if isinstance(model, SoundAutoencoder):
        return decode_sounds(folder, model, codes, speaker, temperature, seed, out)
    _require_unset(folder, "images", speaker=speaker, temperature=temperature, seed=seed)
    return decode_images(folder, model, codes, out)


def reconstruct(
    folder: str,
    files: Sequence[Path],
    scale: int | None,
    speaker: str | None,
    temperature: float | None,
    seed: int | None,
    out: Path | None,
) -> Path:
    """Write reconstructions, and return what to look at: see `reconstruct_images` and `reconstruct_sounds`."""
    model = load(folder)
    if isinstance(model, SoundAutoencoder):
        _require_unset(folder, "sound", scale=scale)
        out = out or open_run(folder).outputs / "reconstructions"
        return reconstruct_sounds(folder, model, files, speaker, temperature, seed, out)
    _require_unset(folder, "images", speaker=speaker, temperature=temperature, seed=seed)
    out = out or open_run(folder).outputs / "reconstructions.png"
    reconstruct_images(folder, model, files, scale or 1, out)
    return out


def sample(
    folder: str,
    n: int,
    label: str | None,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    seed: int,
    full: bool,
    scale: int | None,
    out: Path | None,
) -> Path:
    """Write samples of the run's prior, and return what to look at: see `sample_images` and `sample_sounds`."""
    model = load(folder)
    if isinstance(model, SoundAutoencoder):
        _require_unset(folder, "sound", scale=scale, full=full or None)
        out = out or open_run(folder).outputs / "samples"
        return sample_sounds(folder, model, n, label, temperature, top_k, top_p, seed, out)
    out = out or open_run(folder).outputs / "samples.png"
    sample_images(folder, model, n, label, temperature, top_k, top_p, seed, full, scale or 1, out)
    return out


def _require_unset(folder: str, kind: str, **options: object) -> None:
    for name, value in options.items():
        if value is not None:
            raise NarrowsError(f"--{name}: {folder} is a model of {kind}, which has no use for it; leave it out")
