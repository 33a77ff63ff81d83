"""Sound files to codes and back, in another voice, and drawn anew: as WAV files, and a page to listen to them."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from narrows.commands.codes import CodesOfFiles, distinct_stems, read_codes, require_npz, write_codes
from narrows.commands.generate import refuse_steering
from narrows.commands.source import open_run, open_run_data, what_changed
from narrows.data import SoundData, read_sound, write_sound
from narrows.data.sound import CLIPPED
from narrows.errors import NarrowsError
from narrows.evaluation import decode_shown, speakers_of
from narrows.models import SoundAutoencoder
from narrows.networks import WaveNetDecoder
from narrows.pretrained import load
from narrows.progress import sound_progress
from narrows.report.page import Page, Section, write_page
from narrows.report.sounds import Clip, Sounds

__all__ = ["convert_voice", "decode_sounds", "encode_sounds", "reconstruct_sounds", "sample_sounds", "speaker_number"]

SHOWN = 8
COLUMNS = 3

logger = logging.getLogger(__name__)


def convert_voice(folder: str, file: Path, to: str, temperature: float | None, seed: int | None, out: Path) -> None:
    """Write the sound of `file`, said by the speaker `to`, to the WAV file `out`.

    Raises:
        NarrowsError: if the run is not of sound, or does not know that speaker; the message lists those that it does.
    """
    _require_wav(out)
    model = load(folder)
    if not isinstance(model, SoundAutoencoder):
        raise NarrowsError(f"{folder} is a model of images: voices are converted by one of sound, such as vqvae-speech")
    speaker = speaker_number(model, to)
    waveform = _heard(file, model.sample_rate)
    (sound,) = _decoded(model, _encoded(model, [waveform]), [speaker], temperature, seed)
    write_sound(out, sound[: len(waveform)], model.sample_rate)


def reconstruct_sounds(
    folder: str,
    model: SoundAutoencoder,
    files: Sequence[Path],
    speaker: str | None,
    temperature: float | None,
    seed: int | None,
    out: Path,
) -> Path:
    """Write reconstructions of sound files, or of the first clips of the run's test split, into the folder `out`.

    Returns:
        a page there to listen to them beside the originals.
    """
    if files:
        originals = [_heard(file, model.sample_rate) for file in files]
        speakers = [speaker_number(model, speaker)] * len(files)
    else:
        run = open_run(folder)
        data = open_run_data(run, model)
        what_changed(run, data)
        if not isinstance(data, SoundData):
            raise NarrowsError(f"the data of {folder} are not sound any more")
        clips = data.test.subset(SHOWN)
        files = [Path(name) for name in clips.names]
        originals = [clips.clip(index) for index in range(len(clips))]
        speakers = (
            speakers_of(model, clips).tolist() if speaker is None else [speaker_number(model, speaker)] * len(clips)
        )
    if not files:
        raise NarrowsError(f"the test split of {folder} is empty: name sound files")
    sounds = _decoded(model, _encoded(model, originals), speakers, temperature, seed)
    pairs = []
    for name, original, sound in zip(distinct_stems([str(file) for file in files]), originals, sounds, strict=True):
        again = sound[: len(original)]
        write_sound(out / f"{name}.wav", again, model.sample_rate)
        pairs.append([Clip(name, original), Clip("reconstruction", again)])
    return _page(out / "reconstructions.html", f"Reconstructions by {folder}", pairs, model)


def sample_sounds(
    folder: str,
    model: SoundAutoencoder,
    n: int,
    speaker: str | None,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    seed: int,
    out: Path,
) -> Path:
    """Write n sounds of codes drawn from the run's learned prior into the folder `out`; the speakers take turns.

    Returns:
        a page there to listen to them.
    """
    if model.lacks_prior:
        raise NarrowsError(f"{folder} has no prior to draw codes from: fit one with `narrows prior {folder}`")
    refuse_steering(folder, model.prior, temperature, top_k, top_p)
    chosen = range(len(model.classes)) if speaker is None else [speaker_number(model, speaker)]
    speakers = torch.tensor([chosen[index % len(chosen)] for index in range(n)])
    with sound_progress("sample", n, model.sampled, model.sample_rate) as advance:
        sounds = model.sample(
            n, speakers, temperature, top_k, top_p, torch.Generator().manual_seed(seed), progress=advance
        )
    clips = []
    for index, (sound, number) in enumerate(zip(sounds, speakers.tolist(), strict=True)):
        write_sound(out / f"{index:03}-{_safe(model.classes[number])}.wav", sound[0], model.sample_rate)
        clips.append(Clip(model.classes[number], sound[0]))
    rows = [clips[at : at + COLUMNS] for at in range(0, n, COLUMNS)]
    return _page(out / "samples.html", f"Samples of {folder}", rows, model)


def encode_sounds(folder: str, model: SoundAutoencoder, files: Sequence[Path], out: Path) -> np.ndarray:
    """Write the codes of sound files (a VAE's latents) to `out`; see `narrows.commands.codes` for the layout."""
    require_npz(out)
    waveforms = [_heard(file, model.sample_rate) for file in files]
    codes = [part.numpy() for part in _encoded(model, waveforms)]
    sizes: list[tuple[int, ...]] = [(len(waveform),) for waveform in waveforms]
    return write_codes(out, folder, CodesOfFiles(codes, sizes, [str(file) for file in files]))


def decode_sounds(
    folder: str,
    model: SoundAutoencoder,
    file: Path,
    speaker: str | None,
    temperature: float | None,
    seed: int | None,
    out: Path,
) -> list[Path]:
    """Write the sounds of a file of codes into the folder `out`, each a WAV file named as the sound it came from."""
    number = speaker_number(model, speaker)
    codes, sizes, names = read_codes(file, folder)
    sounds = _decoded(model, [torch.from_numpy(part) for part in codes], [number] * len(codes), temperature, seed)
    written = []
    for name, sound, (length,) in zip(distinct_stems(names), sounds, sizes, strict=True):
        written.append(out / f"{name}.wav")
        write_sound(written[-1], sound[:length], model.sample_rate)
    return written


def speaker_number(model: SoundAutoencoder, name: str | None) -> int:
    """The number of a speaker; of the only one where none is named.

    Raises:
        NarrowsError: if there is no such speaker, or none is named of several; the message lists those there are.
    """
    known = ", ".join(model.classes)
    if name is None and len(model.classes) > 1:
        raise NarrowsError(f"say who is to speak, with --speaker NAME; the model knows: {known}")
    if name is not None and name not in model.classes:
        raise NarrowsError(f"no speaker {name!r}; the model knows: {known}")
    return 0 if name is None else model.classes.index(name)


def _heard(file: Path, sample_rate: int) -> Tensor:
    """The sound of a file, float32 [T], as the model takes it; what had to be done to it, and what is odd, is said."""
    sound = read_sound(file, sample_rate)
    notes = {
        f"resampled from {sound.rate:,} Hz to the model's {sample_rate:,} Hz": sound.rate != sample_rate,
        f"{sound.channels} channels, mixed down to one": sound.channels > 1,
        f"clipped: {sound.clipped:.1%} of its samples are at full scale": sound.clipped > CLIPPED,
        "silent: every sample is 0": not sound.samples.any(),
    }
    for note, true in notes.items():
        if true:
            logger.warning("%s: %s", file, note)
    return torch.from_numpy(sound.samples)


def _encoded(model: SoundAutoencoder, waveforms: Sequence[Tensor]) -> list[Tensor]:
    """What `encode` makes of each waveform alone, so that none depends on the length of another."""
    return [model.encode(waveform.view(1, 1, -1))[0] for waveform in waveforms]


def _decoded(
    model: SoundAutoencoder,
    codes: Sequence[Tensor],
    speakers: Sequence[int],
    temperature: float | None,
    seed: int | None,
) -> list[Tensor]:
    """The sound [T] of each of the codes, by each of the speakers."""
    if not isinstance(model.decoder, WaveNetDecoder):
        for option, value in {"--temperature": temperature, "--seed": seed}.items():
            if value is not None:
                raise NarrowsError(f"{option} {value}: this model's decoder draws nothing, it says all at once")
    return decode_shown(model, codes, speakers, 1.0 if temperature is None else temperature, seed or 0)


def _safe(name: str) -> str:
    """A name as part of a file's, which it shall not lead out of its folder."""
    return re.sub(r"[^\w.-]", "_", name)


def _require_wav(out: Path) -> None:
    if out.suffix.lower() != ".wav":
        raise NarrowsError(f"--out {out}: sound is written as .wav")


def _page(path: Path, title: str, rows: list[list[Clip]], model: SoundAutoencoder) -> Path:
    write_page(path, Page(title, sections=[Section("Sounds", blocks=[Sounds(title, rows, model.sample_rate)])]))
    return path
