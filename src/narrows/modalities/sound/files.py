"""Sound as files and tensors: whatever libsndfile reads, as one channel at one rate, and WAV files to listen to.

Channels are averaged, then resampled by soxr (its setting HQ); full scale is 1, held by 16 bits in steps of 1/32768.
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
"""Samples of each channel decoded at once: channels are averaged before the next, so that long files stay lean."""
FULL_SCALE = 32767 / 32768
"""From here on a sample sits at full scale."""
CUT = re.compile(r"(?:data|SSND) : (\d+) \(should be (\d+)\)")
"""How libsndfile's log tells of a WAV or AIFF file shorter than it says; any it would read as if it were whole."""
LOWEST_RATE = 1000
"""In Hz: a damaged header that says less would have soxr make thousands of samples of each."""
NO_LENGTH = 0x7FFF0000
"""Lengths from here on are what programs that write into a pipe give for unknown."""


class Sound(NamedTuple):
    """A file's sound: float32 [T] in [-1, 1], the rate and channels of the file, the share of it at full scale."""

    samples: np.ndarray
    rate: int
    channels: int
    clipped: float


def to_waveform(levels: Tensor) -> Tensor:
    """The 16-bit samples, int16 [*], as float32 in [-1, 1)."""
    return levels.float() / 32768


def to_int16(samples: np.ndarray) -> np.ndarray:
    """The waveform, float [*], in the nearest of 16-bit samples; what leaves [-1, 1] is clipped, as by any device."""
    return np.rint(samples * 32768).clip(-32768, 32767).astype(np.int16)


def read_sound(path: str | Path, sample_rate: int) -> Sound:
    """Read a sound file for a model of `sample_rate`: mixed down and resampled.

    Raises:
        DataError: naming the file, if it cannot be read.
    """
    try:
        return decode_sound(Path(path), sample_rate)
    except (DataError, OSError) as error:
        raise DataError(f"{path} cannot be read: {error.strerror if isinstance(error, OSError) else error}") from error


def write_sound(path: str | Path, samples: Tensor | np.ndarray, sample_rate: int) -> None:
    """Write a WAV file of 16 bits, whole or not at all; values beyond [-1, 1] are clipped.

    Args:
        path: the file, with the ending .wav.
        samples: the waveform, float [T].
        sample_rate: samples a second.

    Raises:
        DataError: if the name has another ending, or the samples are not finite or not of one channel.
    """
    path = Path(path)
    wave = samples.detach().float().cpu().numpy() if isinstance(samples, Tensor) else samples
    if path.suffix.lower() != ".wav":
        raise DataError(f"{path}: sound is written as WAV; call it {path.with_suffix('.wav').name}")
    if wave.ndim != 1 or not len(wave):
        raise DataError(f"{path}: sound of the shape {list(wave.shape)} cannot be written, only samples [T]")
    if not np.isfinite(wave).all():
        raise DataError(f"{path}: the sound holds values that are not finite, so it cannot be written")
    soundfile, _ = _packages()
    with whole_file(path) as aside:
        soundfile.write(aside, to_int16(wave), sample_rate, format="WAV", subtype="PCM_16")


def decode_sound(source: Path | bytes, sample_rate: int) -> Sound:
    """Decode a file, or its content, whatever its format, channels and rate.

    Raises:
        DataError: saying why it cannot be read.
        OSError: if the file cannot be opened.
    """
    soundfile, soxr = _packages()
    samples, rate, channels, clipped = _decode(soundfile, source)
    if rate != sample_rate:
        # The interpolation between samples near full scale overshoots it.
        samples = soxr.resample(samples, rate, sample_rate).clip(-1, 1)
    if len(samples) < 2:
        raise DataError(f"{len(samples) or 'no'} sample is no sound")
    return Sound(samples, rate, channels, clipped)


def _decode(soundfile: Any, source: Path | bytes) -> Sound:
    """The sound at the file's own rate, of any number of samples."""
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
            raise DataError(f"it says it has {file.samplerate} samples a second, which is no sound's rate")
        if file.frames > 1 << 62:
            raise DataError("it does not say how long it is: write it anew, as a WAV file or with the length known")
        mono, at_full_scale = [np.zeros(0, np.float32)], 0
        while file.tell() < file.frames:
            try:
                block = file.read(BLOCK, dtype="float32", always_2d=True)
            except soundfile.SoundFileError as error:
                raise DataError(f"it is damaged or cut short ({error})") from error
            if not len(block):
                raise DataError(f"it is cut short: {file.tell():,} of {file.frames:,} samples are there")
            if not np.isfinite(block).all():
                raise DataError("it holds values that are not finite")
            at_full_scale += int(np.count_nonzero(np.abs(block) >= FULL_SCALE))
            mono.append(block.clip(-1, 1).mean(1))
        share = at_full_scale / max(1, file.frames * file.channels)
        return Sound(np.concatenate(mono), file.samplerate, file.channels, share)


def _why_unopened(soundfile: Any, head: bytes) -> str:
    version = soundfile.__libsndfile_version__
    is_mp3 = head == b"ID3" or (head[:1] == b"\xff" and head[1:2] >= b"\xe0")
    if is_mp3 and "MP3" not in soundfile.available_formats():
        return f"it is MP3, which takes libsndfile 1.1 or later, not {version}: update soundfile, or turn it into WAV"
    return f"not sound, or too damaged or of a format unknown to libsndfile {version}"


def _packages() -> tuple[Any, Any]:
    try:
        import soundfile  # type: ignore[import-untyped]
        import soxr  # type: ignore[import-untyped]
    except (ImportError, OSError) as error:
        raise DataError(
            f"sound takes the packages soundfile and soxr ({error}): pip install 'narrows[sound]'"
        ) from error
    return soundfile, soxr
