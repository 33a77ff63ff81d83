import base64
import builtins
import io
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from narrows.data import Spec
from narrows.data.films import save_gif
from narrows.errors import NarrowsError
from narrows.modalities.video.films import frames_of, save_strip, side_by_side, write_film
from narrows.modalities.video.modality import MODALITY
from narrows.modalities.video.player import Films
from narrows.modality import Row
from tests.modalities.video.helpers import numbered


def clip(frames: int, height: int = 6, width: int = 5) -> torch.Tensor:
    return torch.from_numpy(numbered(frames, (height, width))).permute(3, 0, 1, 2) / 255


def test_clips_side_by_side_are_magnified_and_stay_in_their_last_frame() -> None:
    long, short = clip(4), clip(2)
    frames = list(side_by_side([long, short], scale=2))
    assert len(frames) == 4
    for index, frame in enumerate(frames):
        assert frame.shape == (12, 2 * (5 + 4 + 5), 3)
        assert (frame[:, :10] == frames_of(long)[index, 0, 0]).all()
        assert (frame[:, 10:18] == 255).all()
        assert (frame[:, 18:] == frames_of(short)[min(index, 1), 0, 0]).all()


def test_films_of_odd_sizes_play_at_their_rate(tmp_path: Path) -> None:
    write_film(tmp_path / "a.mp4", [clip(7, 9, 7)], rate=8.75, scale=1)
    with av.open(str(tmp_path / "a.mp4")) as film:
        stream = film.streams.video[0]
        assert float(stream.average_rate) == pytest.approx(8.75)
        assert (stream.height, stream.width) == (10, 8)
        found = [frame.to_ndarray(format="rgb24").mean() for frame in film.decode(stream)]
    np.testing.assert_allclose(found, 20 + 6 * np.arange(7), atol=3)
    write_film(tmp_path / "a.gif", [clip(7)], rate=None, scale=3)
    film = Image.open(tmp_path / "a.gif")
    levels = [np.asarray(frame.convert("RGB")).mean() for frame in ImageSequence.Iterator(film)]
    assert (film.size, film.info["duration"]) == ((15, 18), 100)
    np.testing.assert_allclose(levels, 20 + 6 * np.arange(7), atol=6)


@pytest.mark.parametrize("rate", [60.0, 120.0, 50.0, 45.0])
def test_fast_gifs_play_at_their_rate_where_browsers_do_not_slow_them(tmp_path: Path, rate: float) -> None:
    save_gif(tmp_path / "a.gif", numbered(36), rate)
    with Image.open(tmp_path / "a.gif") as film:
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(film)]
        levels = [np.asarray(frame.convert("RGB")).mean() for frame in ImageSequence.Iterator(film)]
    assert min(durations) >= 20  # browsers show shorter ones for 100 ms
    assert sum(durations) == pytest.approx(36 * 1000 / rate, abs=10)
    starts = np.cumsum([0, *durations[:-1]]) / 1000
    np.testing.assert_allclose((np.array(levels) - 20) / 6, starts * rate, atol=1 + rate / 100)


def test_a_strip_has_a_row_for_each_clip(tmp_path: Path) -> None:
    save_strip(tmp_path / "a.png", [clip(8), clip(3)], frames=[0, 2, 6])
    strip = np.asarray(Image.open(tmp_path / "a.png"))
    assert strip.shape == (2 * 6 + 2, 3 * 5 + 2 * 2, 3)
    assert strip[0, [0, 7, 14], 0].tolist() == [20, 32, 56]
    assert strip[8, [0, 7, 14], 0].tolist() == [20, 32, 32]


def test_rows_on_a_page_have_names_and_at_most_three_clips() -> None:
    rows = [Row("" if index else "named", [clip(3)]) for index in range(5)]
    films = MODALITY.show_rows(rows, Spec((3, 3, 6, 5), "video", variable=True), "Five.")
    assert [[cell.name for cell in row] for row in films.cells] == [["named", "2", "3"], ["4", "5"]]  # type: ignore[attr-defined]


def test_a_page_says_that_it_plays_the_first_frames_of_a_long_clip() -> None:
    ((long, short),) = Films(
        "Two.", [[("long", torch.rand(3, 70, 6, 5)), ("short", torch.rand(3, 64, 6, 5))]], 10
    ).cells
    assert long.name == "long: the first 64 of 70 frames"
    assert short.name == "short"
    for cell in (long, short):
        assert cell.seconds == 6.4
        assert Image.open(io.BytesIO(base64.b64decode(cell.webp))).n_frames == 64


def test_figures_of_a_clip_are_the_means_of_its_frames() -> None:
    x, y = torch.rand(2, 3, 4, 12, 12), torch.rand(2, 3, 4, 12, 12)
    spec = Spec((3, 4, 12, 12), "video", variable=True)
    found = MODALITY.figures(x, y, spec)
    for name in ("mse", "psnr", "ssim"):
        each = [MODALITY.figures(x[:, :, [frame]], y[:, :, [frame]], spec)[name] for frame in range(4)]
        torch.testing.assert_close(found[name], torch.stack(each).mean(0))


def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *others: object) -> object:
        if name == "av":
            raise ImportError("No module named 'av'")
        return real(name, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(NarrowsError, match=r"pip install 'narrows\[video\]'"):
        write_film(tmp_path / "a.mp4", [clip(2)], 5)
    write_film(tmp_path / "a.gif", [clip(2)], 5)
