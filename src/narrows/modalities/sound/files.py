"""Read any file that libsndfile can read as mono sound at one sample rate, and write WAV files.

Channels are averaged, then resampled by soxr (quality HQ). Full scale is 1; 16-bit samples have steps of 1/32768.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from narrows.atomic import whole_file
from narrows.data.errors import DataError

__all__ = ["Sound", "decode_sound", "read_sound", "to_int16", "to_waveform", "write_sound"]

BLOCK = 1 << 20
"""Samples of each channel decoded at once; channels are averaged block by block, which saves memory on long files."""
FULL_SCALE = 32767 / 32768
"""Samples of at least this magnitude are at full scale."""
CUT = re.compile(r"(?:data|SSND) : (\d+) \(should be (\d+)\)")
"""The line of libsndfile's log for a WAV or AIFF file shorter than its header states, which it reads without error."""
LOWEST_RATE = 1000
"""In Hz; a damaged header with a lower rate would make soxr produce thousands of samples for each one."""
NO_LENGTH = 0x7FFF0000
"""Programs that write to a pipe state lengths of at least this for "unknown"."""


class Sound(NamedTuple):
    """The samples of a file, float32 [T] in [-1, 1], its rate in Hz, its channels, and its share of clipped samples."""

    samples: np.ndarray
    rate: int
    channels: int
    clipped: float


def to_waveform(levels: Tensor) -> Tensor:
    """Return 16-bit samples, int16 [*], as float32 in [-1, 1)."""
    return levels.float() / 32768


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Return a waveform, float [*], rounded to 16-bit samples; values outside [-1, 1] are clipped."""
    return np.rint(samples * 32768).clip(-32768, 32767).astype(np.int16)


def read_sound(path: str | Path, sample_rate: int) -> Sound:
    """Read a sound file, mixed down to mono and resampled to `sample_rate` (Hz).

    Raises:
        DataError: if the file cannot be read; the message names it.
    """
    try:
        return decode_sound(Path(path), sample_rate)
    except (DataError, OSError) as error:
        raise DataError(f"{path} cannot be read: {error.strerror if isinstance(error, OSError) else error}") from error


def write_sound(path: str | Path, samples: Tensor | np.ndarray, sample_rate: int) -> None:
    """Write a 16-bit WAV file, complete or not at all; values outside [-1, 1] are clipped.

    Args:
        path: the file, ending in .wav.
        samples: the waveform, float [T].
        sample_rate: in Hz.

    Raises:
        DataError: if the file does not end in .wav, or the samples are not finite or not mono.
    """
    path = Path(path)
    wave = samples.detach().float().cpu().numpy() if isinstance(samples, Tensor) else samples
    if path.suffix.lower() != ".wav":
        raise DataError(f"{path}: sound is written as WAV; name it {path.with_suffix('.wav').name}")
    if wave.ndim != 1 or not len(wave):
        raise DataError(f"{path}: sound of shape {list(wave.shape)} cannot be written; give samples [T]")
    if not np.isfinite(wave).all():
        raise DataError(f"{path}: the sound has values that are not finite, so it cannot be written")
    soundfile, _ = _packages()
    with whole_file(path) as aside:
        soundfile.write(aside, to_int16(wave), sample_rate, format="WAV", subtype="PCM_16")


def decode_sound(source: Path | bytes, sample_rate: int) -> Sound:
    """Decode a file or its bytes, of any format, channels and rate, to mono sound at `sample_rate` (Hz).

    Raises:
        DataError: if it cannot be read, with the reason.
        OSError: if the file cannot be opened.
    """
    soundfile, soxr = _packages()
    samples, rate, channels, clipped = _decode(soundfile, source)
    if rate != sample_rate:
        # Interpolation between samples near full scale overshoots.
        samples = soxr.resample(samples, rate, sample_rate).clip(-1, 1)
    if len(samples) < 2:
        raise DataError("it has fewer than two samples, too few for sound")
    return Sound(samples, rate, channels, clipped)


def _decode(soundfile: Any, source: Path | bytes) -> Sound:
    """Return the sound at the file's own rate, of any number of samples."""
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as content:
        head = content.read(3)
    if not head:
        raise DataError("it is empty")
    try:
        file = soundfile.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else str(source))
    except (soundfile.SoundFileError, TypeError) as error:
        raise DataError(_why_unopened(soundfile, head)) from error
    with file:
        cut = CUT.search(file.extra_info)
        if cut and int(cut[1]) < NO_LENGTH:
            raise DataError(f"it is cut short: {int(cut[2]):,} of {int(cut[1]):,} bytes of sound are there")
        if file.samplerate < LOWEST_RATE:
            raise DataError(f"its header states {file.samplerate} samples a second, which is too low for sound")
        if file.frames > 1 << 62:
            raise DataError("its header does not state how long it is: convert it to WAV, or write it with a length")
        mono, at_full_scale = [np.zeros(0, np.float32)], 0
        while file.tell() < file.frames:
            try:
                block = file.read(BLOCK, dtype="float32", always_2d=True)
            except soundfile.SoundFileError as error:
                raise DataError(f"it is damaged or cut short ({error})") from error
            if not len(block):
                raise DataError(f"it is cut short: {file.tell():,} of {file.frames:,} samples are there")
            if not np.isfinite(block).all():
                raise DataError("it has values that are not finite")
            at_full_scale += int(np.count_nonzero(np.abs(block) >= FULL_SCALE))
            mono.append(block.clip(-1, 1).mean(1))
        share = at_full_scale / max(1, file.frames * file.channels)
        return Sound(np.concatenate(mono), file.samplerate, file.channels, share)


def _why_unopened(soundfile: Any, head: bytes) -> str:
    version = soundfile.__libsndfile_version__
    is_mp3 = head == b"ID3" or (head[:1] == b"\xff" and head[1:2] >= b"\xe0")
    if is_mp3 and "MP3" not in soundfile.available_formats():
        return f"it is MP3, which needs libsndfile 1.1 or later, not {version}: update soundfile, or convert it to WAV"
    return f"it is not sound, is damaged, or has a format that libsndfile {version} cannot read"


def _packages() -> tuple[Any, Any]:
    try:
        import soundfile  # type: ignore[import-untyped]
        import soxr  # type: ignore[import-untyped]
    except (ImportError, OSError) as error:
        raise DataError(
            f"sound needs the packages soundfile and soxr ({error}): pip install 'narrows[sound]'"
        ) from error
    return soundfile, soxr
