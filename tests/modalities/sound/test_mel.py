from __future__ import annotations

import math

import librosa
import numpy as np
import pytest
import torch
from torch import Tensor

from narrows.errors import NarrowsError
from narrows.modalities.sound.mel import BANDS, FLOOR, _filters, log_mel, log_mel_distance

GAIN = 20 * math.log10(2)


def noise(length: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(length, generator=torch.Generator().manual_seed(seed))


def sine(frequency: float, sample_rate: int, amplitude: float = 1.0) -> Tensor:
    """Half a second."""
    time = torch.arange(sample_rate // 2, dtype=torch.float64) / sample_rate
    return (amplitude * torch.sin(2 * math.pi * frequency * time)).float()


def edges(sample_rate: int) -> np.ndarray:
    """The corners of the bands in Hz [bands + 2]: band b rises from b, is highest at b + 1 and ends at b + 2."""
    return librosa.mel_frequencies(BANDS + 2, fmin=0, fmax=sample_rate / 2)


def reference(waveform: Tensor, sample_rate: int) -> np.ndarray:
    """The definition, frame by frame: the power of a plain Fourier sum at each frequency, in triangles."""
    length, hop = round(0.025 * sample_rate), round(0.01 * sample_rate)
    size = max(256, 2 ** math.ceil(math.log2(length)))
    window = np.sin(np.pi * np.arange(length) / length) ** 2
    frequencies = np.arange(size // 2 + 1) * sample_rate / size
    corners = edges(sample_rate)
    bands = np.stack([np.interp(frequencies, corners[b : b + 3], (0, 1, 0), 0, 0) for b in range(BANDS)])
    waves = np.exp(-2j * np.pi * np.outer(np.arange(size // 2 + 1), np.arange(length)) / size)
    padded = np.pad(waveform.double().numpy(), length)
    frames = []
    for centre in range(0, len(waveform) + 1, hop):
        start = length + centre - (length + 1) // 2
        power = np.abs(waves @ (window * padded[start : start + length])) ** 2
        frames.append(bands @ power * 4 / (size * (window**2).sum()))
    return 10 * np.log10(np.maximum(frames, 1e-8))


@pytest.mark.parametrize("sample_rate", [1000, 1999, 2000, 2001, 8000, 16000, 22050, 44100, 48000, 96000])
@pytest.mark.parametrize("size", [256, 1024, 4096])
@pytest.mark.filterwarnings("ignore:Empty filters")
def test_the_filters_are_those_of_librosa(sample_rate: int, size: int) -> None:
    expected = librosa.filters.mel(sr=sample_rate, n_fft=size, n_mels=BANDS, norm=None, htk=False)
    actual = _filters(sample_rate, size)
    assert actual.dtype == torch.float32
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("sample_rate", [1000, 8000, 16000, 22050, 44100])
def test_the_spectrogram_is_that_of_the_definition(sample_rate: int) -> None:
    waveform = noise(sample_rate // 10 + 3)
    expected = reference(waveform, sample_rate)
    actual = log_mel(waveform, sample_rate)
    assert actual.dtype == torch.float32
    assert actual.shape == expected.shape == (1 + len(waveform) // round(0.01 * sample_rate), BANDS)
    assert actual.min() > FLOOR, "no band lies between the frequencies of the transform"
    np.testing.assert_allclose(actual, expected, atol=1e-2)


@pytest.mark.parametrize("length", [1, 7, 159, 160, 399, 400, 401])
def test_sounds_shorter_than_a_window_have_frames_too(length: int) -> None:
    spectrogram = log_mel(torch.ones(length), 16000)
    assert spectrogram.shape == (1 + length // 160, BANDS)
    assert spectrogram.isfinite().all()


def test_digital_silence_lies_on_the_floor() -> None:
    assert torch.equal(log_mel(torch.zeros(16000), 16000), torch.full((101, BANDS), FLOOR))


@pytest.mark.parametrize("sample_rate", [8000, 16000, 44100])
def test_a_sine_is_loudest_in_the_band_of_its_frequency_and_has_its_power_in_all(sample_rate: int) -> None:
    for band in (8, 20, 40, 60, 78):
        frequency = edges(sample_rate)[band + 1]
        inner = log_mel(sine(frequency, sample_rate), sample_rate)[3:-3]
        assert (inner.argmax(1) == band).all()
        assert inner.double().mul(math.log(10) / 10).exp().sum(1).numpy() == pytest.approx(1, abs=0.02)
        quieter = log_mel(sine(frequency, sample_rate, amplitude=0.1), sample_rate)[3:-3]
        assert quieter.max(1).values.numpy() == pytest.approx(inner.max(1).values.numpy() - 20, abs=1e-3)


def test_the_distance_is_a_gain_in_decibels_the_same_from_both_sides_and_blind_to_sign() -> None:
    x, other = noise(16000), noise(16000, seed=1)
    assert log_mel_distance(x, x, 16000) == 0
    assert log_mel_distance(x, 2 * x, 16000) == pytest.approx(GAIN, abs=1e-4)
    assert log_mel_distance(x, -x, 16000) == 0
    assert log_mel_distance(x, other, 16000) == log_mel_distance(other, x, 16000) > 1


def test_the_root_is_taken_over_bands_and_the_mean_over_frames() -> None:
    x, other = noise(32000), noise(32000, seed=1)
    louder_at_last = torch.cat([x[:16000], 2 * x[16000:]])
    # Of 201 frames, the two or three across the middle lie between.
    assert 99 / 201 * GAIN < log_mel_distance(x, louder_at_last, 16000) < 102 / 201 * GAIN
    apart = (log_mel(x, 16000) - log_mel(other, 16000)).numpy()
    assert log_mel_distance(x, other, 16000) == pytest.approx(np.sqrt((apart**2).mean(1)).mean(), rel=1e-5)


def test_what_has_no_spectrogram_is_an_error() -> None:
    for waveform in (torch.zeros(0), torch.zeros(1, 100), torch.zeros(100, dtype=torch.int16)):
        with pytest.raises(NarrowsError, match=r"waveform, float \[T\]"):
            log_mel(waveform, 16000)
    for value in (math.nan, math.inf):
        with pytest.raises(NarrowsError, match="not finite"):
            log_mel(torch.tensor([0.0, value]), 16000)
    with pytest.raises(NarrowsError, match="sample_rate: 999"):
        log_mel(torch.zeros(100), 999)
    with pytest.raises(NarrowsError, match=r"equal length.*\[100\] and \[101\]"):
        log_mel_distance(torch.zeros(100), torch.zeros(101), 16000)
