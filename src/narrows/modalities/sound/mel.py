"""Log-mel spectrograms, and a distance between two sounds based on them, which ignores phase.

Bands are evenly spaced on the mel scale of Slaney's Auditory Toolbox (1998), linear below 1 kHz and logarithmic above.
The distance is the log-spectral distance of Gray and Markel (1976), computed in these bands.
"""

from __future__ import annotations

from math import log

import numpy as np
import torch
from torch import Tensor

from narrows.errors import NarrowsError
from narrows.modalities.sound.files import LOWEST_RATE

__all__ = ["BANDS", "FLOOR", "log_mel", "log_mel_distance"]

BANDS = 80
"""Number of bands, from 0 Hz to half the sample rate."""
FLOOR = -80.0
"""In dB; quieter bands are raised to this, so that digital silence is finite."""
WINDOW, HOP = 0.025, 0.010
"""In seconds."""
MELS_PER_HERTZ, BREAK, LOG_STEP = 3 / 200, 1000.0, log(6.4) / 27
"""The mel scale below the break in Hz, and the logarithm of the ratio of two frequencies one mel apart above it."""
SMALLEST_TRANSFORM = 256
"""In samples; with fewer, the lowest bands could fall between the frequencies of the transform at low rates."""


def log_mel(waveform: Tensor, sample_rate: int) -> Tensor:
    """Return the log-mel spectrogram of a sound.

    Frames are 10 ms apart, the first centred on the first sample; each has a Hann window of 25 ms, and the sound is
    padded with silence. The power of a frame is summed in 80 overlapping triangles of height 1, evenly spaced on the
    mel scale from 0 Hz to half the sample rate. 0 dB is the power of a full-scale sine, and -80 dB is the floor.

    Args:
        waveform: float32 [T] in [-1, 1], T at least 1.
        sample_rate: in Hz.

    Returns:
        float32 [frames, bands] in dB, on the waveform's device: 1 + T // hop frames, 80 bands from low to high.

    Raises:
        NarrowsError: if the waveform is not finite floats [T], or the rate is below 1000 Hz.
    """
    if waveform.ndim != 1 or not len(waveform) or not waveform.is_floating_point():
        raise NarrowsError(
            f"a mel spectrogram needs a waveform, float [T] in [-1, 1]; got {waveform.dtype} {list(waveform.shape)}"
        )
    if not waveform.isfinite().all():
        raise NarrowsError("the waveform has values that are not finite, so it has no mel spectrogram")
    if sample_rate < LOWEST_RATE:
        raise NarrowsError(
            f"sample_rate: {sample_rate} samples a second is too low for sound; give {LOWEST_RATE} or more"
        )
    length = round(WINDOW * sample_rate)
    size = max(SMALLEST_TRANSFORM, 1 << (length - 1).bit_length())
    window = torch.hann_window(length, device=waveform.device)
    spectrum = torch.stft(
        waveform.float(),
        size,
        hop_length=round(HOP * sample_rate),
        win_length=length,
        window=window,
        pad_mode="constant",
        return_complex=True,
    )
    # By Parseval's theorem, a sine of amplitude 1 adds up to this over the frequencies from 0 to half the rate.
    full_scale = size * window.square().sum() / 4
    power = _filters(sample_rate, size).to(waveform.device) @ (spectrum.abs().square() / full_scale)
    return 10 * power.T.clamp(min=10 ** (FLOOR / 10)).log10()


def log_mel_distance(x: Tensor, y: Tensor, sample_rate: int) -> float:
    """Return the distance between the log-mel spectrograms of two sounds in dB; 0 if they are equal.

    d(x, y) = mean over frames of sqrt(mean over bands of (log_mel(x) - log_mel(y))^2).

    Args:
        x: a sound, float32 [T] in [-1, 1].
        y: a sound of the same length, aligned in time with `x`.
        sample_rate: of both, in Hz.

    Raises:
        NarrowsError: if the shapes differ, or as for `log_mel`.
    """
    if x.shape != y.shape:
        raise NarrowsError(
            f"the log-mel distance compares sounds of equal length, frame by frame; got {list(x.shape)} and "
            f"{list(y.shape)}: cut both to the length of the shorter"
        )
    difference = log_mel(x, sample_rate) - log_mel(y, sample_rate)
    return float(difference.square().mean(1).sqrt().mean())


def _filters(sample_rate: int, size: int) -> Tensor:
    """Return the weight of each frequency of a transform in each band, float32 [bands, size / 2 + 1].

    A band is a triangle of height 1, which rises from the centre of the band below and falls to that of the band above.
    """
    corners = _hertz(np.linspace(0, _mel(sample_rate / 2), BANDS + 2))
    widths = np.diff(corners)[:, None]
    distances = corners[:, None] - np.fft.rfftfreq(size, 1 / sample_rate)
    rising, falling = -distances[:-2] / widths[:-1], distances[2:] / widths[1:]
    return torch.from_numpy(np.minimum(rising, falling).clip(min=0).astype(np.float32))


def _mel(hertz: float) -> float:
    """Convert Hz to mels on Slaney's scale: 3 mels per 200 Hz up to 1 kHz, then 27 mels per factor of 6.4."""
    return hertz * MELS_PER_HERTZ if hertz < BREAK else BREAK * MELS_PER_HERTZ + log(hertz / BREAK) / LOG_STEP


def _hertz(mels: np.ndarray) -> np.ndarray:
    """Convert mels to Hz, the inverse of `_mel`."""
    beyond = np.maximum(mels - BREAK * MELS_PER_HERTZ, 0)
    return np.minimum(mels / MELS_PER_HERTZ, BREAK) * np.exp(LOG_STEP * beyond)
