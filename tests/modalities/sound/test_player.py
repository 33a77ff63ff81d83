from __future__ import annotations

import base64
import io
import math
import re
import wave
from html import unescape
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from narrows.modalities.sound.files import to_int16
from narrows.modalities.sound.mel import BANDS, FLOOR, log_mel
from narrows.modalities.sound.player import CEILING, COLOURS, COLUMNS, Clip, Sounds
from narrows.report import Page, Section, write_page

RATE = 16000
NASTY = "<script>alert('x')</script> & \"quoted\""


def noise(length: int) -> Tensor:
    return 0.3 * torch.randn(length, generator=torch.Generator().manual_seed(0))


def sine(frequency: float, length: int = RATE) -> Tensor:
    return 0.5 * torch.sin(2 * math.pi * frequency * torch.arange(length) / RATE)


def written(
    folder: Path, *row: Tensor | np.ndarray, sample_rate: int = RATE, caption: str = "c", name: str = "n"
) -> str:
    block = Sounds(caption, [[Clip(name, waveform) for waveform in row]], sample_rate)
    write_page(folder / "report.html", Page("t", sections=[Section("s", blocks=[block])]))
    return (folder / "report.html").read_text("utf-8")


def embedded(html: str, kind: str) -> list[io.BytesIO]:
    return [io.BytesIO(base64.b64decode(data)) for data in re.findall(f'src="data:{kind};base64,([^"]+)"', html)]


def outlines(html: str) -> list[np.ndarray]:
    """The corners [P, 2] of every waveform drawn."""
    corners = []
    for start, steps in re.findall(r'<path d="M0 (-?\d+)l([-\d ]+)z"/>', html):
        moves = np.array(steps.split(), int).reshape(-1, 2)
        corners.append(np.concatenate([[[0, int(start)]], moves]).cumsum(0))
    return corners


@pytest.mark.parametrize("sample_rate", [8000, 44100])
def test_the_page_plays_exactly_the_samples_in_16_bits(sample_rate: int, tmp_path: Path) -> None:
    given = 2 * noise(5000)
    assert given.abs().max() > 1, "some are clipped"
    html = written(tmp_path, given, given.numpy(), given.double().requires_grad_(), sample_rate=sample_rate)
    files = embedded(html, "audio/wav")
    assert len(files) == 3
    for file in files:
        with wave.open(file) as sound:
            assert (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) == (1, 2, sample_rate)
            played = np.frombuffer(sound.readframes(sound.getnframes()), "<i2")
        np.testing.assert_array_equal(played, to_int16(given.numpy()))


def test_the_page_may_play_what_it_holds_and_loads_nothing(tmp_path: Path) -> None:
    html = written(tmp_path, noise(2000), noise(1000))
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', html)
    assert "default-src 'none'" in policy
    assert "media-src data:" in policy, "or else browsers refuse the sounds"
    beside_data = re.sub(r";base64,[^\"]+", "", html)
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)|<script", beside_data)
    assert all(source.startswith("data:") for source in re.findall(r'(?:src|href)="([^#"][^"]*)"', html))
    assert html.count("<audio controls") == html.count("</audio>") == 2


def test_names_and_caption_are_escaped(tmp_path: Path) -> None:
    html = written(tmp_path, noise(100), caption=NASTY, name=NASTY)
    assert "<script" not in html
    # Caption; the name above, and of the waveform, the spectrogram and the player.
    assert unescape(html).count(NASTY) == 5


def test_a_short_sound_is_drawn_sample_by_sample(tmp_path: Path) -> None:
    samples = torch.tensor([0.0, 0.5, -0.25, 0.1])
    (corners,) = outlines(written(tmp_path, samples))
    there = [[0, 0], [1, -100], [2, 50], [3, -20]]
    assert corners.tolist() == there + there[::-1]


def test_the_outline_holds_every_sample_and_no_more(tmp_path: Path) -> None:
    given = noise(10 * COLUMNS).clamp(-1, 1)
    (corners,) = outlines(written(tmp_path, given))
    columns = given.numpy().reshape(COLUMNS, 10) / given.abs().max().item()
    np.testing.assert_array_equal(corners[:COLUMNS, 0], np.arange(COLUMNS))
    np.testing.assert_array_equal(corners[:COLUMNS, 1], np.rint(-100 * columns.max(1)))
    np.testing.assert_array_equal(corners[COLUMNS:, 0], np.arange(COLUMNS)[::-1])
    np.testing.assert_array_equal(corners[COLUMNS:, 1], np.rint(-100 * columns.min(1))[::-1])


def test_the_clips_of_a_row_share_their_scales_of_time_and_amplitude(tmp_path: Path) -> None:
    html = written(tmp_path, sine(400), sine(400, RATE // 4) / 2)
    assert re.findall(r'style="width: ([\d.]+)%"', html) == ["100.0", "25.0"]
    assert re.findall(r"<span>([\d.]+) s</span>", html) == ["1.00", "0.25"]
    assert [np.abs(corners[:, 1]).max() for corners in outlines(html)] == [100, 50]


def test_the_spectrogram_has_the_colours_of_its_decibels_and_low_bands_at_the_bottom(tmp_path: Path) -> None:
    low, high = sine(200), sine(6000)
    pictures = [Image.open(file) for file in embedded(written(tmp_path, low, high), "image/png")]
    colours = matplotlib.colormaps["magma"](np.linspace(0, 1, COLOURS), bytes=True)[:, :3]
    for picture, waveform in zip(pictures, (low, high), strict=True):
        assert picture.size == (101, BANDS)
        share = (log_mel(waveform, RATE).numpy().T[::-1] - FLOOR) / (CEILING - FLOOR)
        levels = np.rint(share.clip(0, 1) * (COLOURS - 1)).astype(int)
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), colours[levels])
    loudest = [np.asarray(picture.convert("L"))[:, 50].argmax() for picture in pictures]
    assert loudest[0] > 0.9 * BANDS
    assert loudest[1] < 0.1 * BANDS


def test_drawings_stay_small_however_long_the_sound(tmp_path: Path) -> None:
    html = written(tmp_path, noise(30 * RATE))
    (picture,) = embedded(html, "image/png")
    assert Image.open(picture).size == (COLUMNS, BANDS)
    (sound,) = re.findall('audio/wav;base64,([^"]+)', html)
    assert len(html) - len(sound) < 50_000


def test_silence_and_a_single_sample_are_shown(tmp_path: Path) -> None:
    html = written(tmp_path, torch.zeros(1000), torch.ones(1))
    silent, single = outlines(html)
    assert (silent[:, 1] == 0).all()
    assert single.tolist() == [[0, -100], [0, -100]]
    assert len(embedded(html, "image/png")) == len(embedded(html, "audio/wav")) == 2


@pytest.mark.parametrize(
    "waveform",
    [torch.zeros(0), torch.zeros(1, 100), np.zeros((100, 2), np.float32), np.zeros(100, np.int16), torch.tensor(0.5)],
)
def test_what_is_no_waveform_is_refused(waveform: Tensor | np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"float \[T\] in \[-1, 1\]; 'one' is"):
        Clip("one", waveform)


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_waveform_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="'one' has values that are not finite"):
        Clip("one", torch.tensor([0, value]))


def test_sounds_need_clips_in_every_row_and_the_rate_of_a_sound() -> None:
    clip = Clip("one", torch.zeros(10))
    for rows in ([], [[clip], []]):
        with pytest.raises(ValueError, match="'c' need at least one row"):
            Sounds("c", rows, RATE)
    with pytest.raises(ValueError, match="'c' need a sample rate of at least 1000; got 999"):
        Sounds("c", [[clip]], 999)
