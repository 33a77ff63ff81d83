import logging
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from narrows.data import DataError
from narrows.modalities.video.film_files import read_film
from narrows.modalities.video.recording import Fit, Memory, Recording, TooLarge
from narrows.modalities.video.stills import in_order, read_stills
from narrows.modalities.video.timing import Shown, resampled, variation
from tests.modalities.video.helpers import number_of, numbered, write_video

FIT = Fit(Memory(1.0))


def read(path: Path, rate: float | None = None, fit: Fit = FIT) -> Recording:
    return read_film(path, "film", fit, rate)


def numbers(recording: Recording) -> list[int]:
    return [number_of(frame) for frame in recording.frames]


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [("mp4", "libx264"), ("avi", "mpeg4"), ("webm", "libvpx"), ("mkv", "libx264"), ("mov", "libx264")],
)
def test_every_frame_is_read_once_and_in_order(tmp_path: Path, suffix: str, codec: str) -> None:
    found = read(write_video(tmp_path / f"a.{suffix}", numbered(25), codec=codec))
    assert found.frames.shape == (25, 32, 48, 3)
    assert found.rate == pytest.approx(10)
    assert numbers(found) == list(range(25))


@pytest.mark.parametrize(
    ("rate", "expected"),
    [(5, list(range(0, 25, 2))), (20, [n // 2 for n in range(50)]), (4, [0, 2, 5, 7, 10, 12, 15, 17, 20, 22])],
)
def test_films_are_sampled_at_a_rate(tmp_path: Path, rate: float, expected: list[int]) -> None:
    assert numbers(read(write_video(tmp_path / "a.mp4", numbered(25)), rate)) == expected


def test_a_variable_frame_rate_is_resampled_by_timestamps_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Ten frames of 40 ms, then ten of 200 ms: half a second is 5 or 2 to 3 of them."""
    times = [40 * index for index in range(10)] + [400 + 200 * index for index in range(10)]
    path = write_video(tmp_path / "a.mkv", numbered(20), times=times)
    with caplog.at_level(logging.WARNING, logger="narrows"):
        found = read(path, rate=10)
    shown = [max(index for index, time in enumerate(times) if time <= 100 * tick) for tick in range(len(found.frames))]
    assert numbers(found) == shown
    assert len(shown) in (22, 23, 24)
    assert "its frame rate varies from 5 to 25 frames/s; sampled at 10" in caplog.text


def test_a_gif_is_read_by_the_durations_of_its_frames(tmp_path: Path) -> None:
    pictures = [Image.fromarray(frame) for frame in numbered(4)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=[100, 100, 300, 100])
    assert numbers(read(tmp_path / "a.gif", rate=10)) == [0, 1, 2, 2, 2, 3]


def test_frames_are_scaled_and_cropped_to_the_centre(tmp_path: Path) -> None:
    frames = numbered(3)
    frames[:, :, :8] = 255
    frames[:, :, -8:] = 255  # what the crop leaves out
    found = read(write_video(tmp_path / "a.mp4", frames), fit=Fit(Memory(1.0), 16, 16))
    assert found.frames.shape == (3, 16, 16, 3)
    assert numbers(found) == [0, 1, 2]


def test_films_of_phones_are_turned_upright(tmp_path: Path) -> None:
    """The matrix of the track header is that of a phone held upright: shown turned by 90 degrees clockwise."""
    frames = numbered(5)
    frames[:, :, :24] = 255  # the left half, which becomes the upper one
    path = write_video(tmp_path / "a.mp4", frames)
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44
    content[matrix : matrix + 20] = struct.pack(">5i", 0, 1 << 16, 0, -(1 << 16), 0)
    path.write_bytes(content)
    found = read(path).frames
    assert found.shape == (5, 48, 32, 3)
    assert (found[:, :20] > 230).all()
    assert (found[:, 28:] < 80).all()


def test_the_cover_of_a_sound_file_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as film:
        sound, cover = film.add_stream("aac", rate=8000), film.add_stream("mjpeg")
        cover.height, cover.width, cover.pix_fmt = 32, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        film.mux(sound.encode(frame))
        film.mux(sound.encode())
        film.mux(cover.encode(av.VideoFrame.from_ndarray(numbered(1)[0], format="rgb24")))
        film.mux(cover.encode())
    with av.open(str(path)) as film:
        assert len(film.streams.video) == 1
    with pytest.raises(DataError, match="it has no video stream"):
        read(path)


def test_a_film_too_large_for_memory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TooLarge, match=r"more than 1e-05 GB of memory: lower data.rate or data.size"):
        read(write_video(tmp_path / "a.mp4", numbered(25)), fit=Fit(Memory(1e-5)))


def sound(path: Path) -> None:
    with av.open(str(path), "w") as film:
        stream = film.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        film.mux(stream.encode(frame))
        film.mux(stream.encode())


def truncated(path: Path) -> None:
    content = write_video(path, noise(40)).read_bytes()
    path.write_bytes(content[: len(content) // 2])


def truncated_with_index_first(path: Path) -> None:
    content = write_video(path, noise(40), movflags="faststart").read_bytes()
    path.write_bytes(content[: len(content) // 2])


def unknown_codec(path: Path) -> None:
    content = write_video(path, numbered(5)).read_bytes()
    path.write_bytes(content.replace(b"avc1", b"zzzz").replace(b"avcC", b"zzzC"))


def damaged(path: Path) -> None:
    content = bytearray(write_video(path, noise(40)).read_bytes())
    start = content.index(b"mdat") + 2000
    content[start : start + 3000] = bytes(3000)
    path.write_bytes(content)


def changing_size(path: Path) -> None:
    """Two films, one after the other, as a stream of the same codec."""
    parts = []
    for size in ((32, 48), (48, 64)):
        with av.open(str(path), "w", format="mpeg1video") as film:
            stream = film.add_stream("mpeg1video", rate=25)
            stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
            for frame in numbered(5, size):
                film.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            film.mux(stream.encode())
        parts.append(path.read_bytes())
    path.write_bytes(b"".join(parts))


def noise(frames: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (frames, 32, 48, 3), np.uint8)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda path: path.write_bytes(b"junk" * 100), "cannot be read as a video: .*Invalid data"),
        (lambda path: path.write_bytes(b""), "cannot be read as a video"),
        (sound, "it has no video stream"),
        (truncated, "cannot be read as a video: .*(moov|Invalid data)"),
        (truncated_with_index_first, "cut off|cannot be read"),
        (unknown_codec, "cannot be read as a video|no decoder"),
        (changing_size, "its frames change their size: frame 5 has 64x48 pixels, the first 48x32"),
        (damaged, "damaged|cannot be read as a video"),
    ],
)
def test_bad_video_files_are_refused(tmp_path: Path, make, complaint: str) -> None:  # type: ignore[no-untyped-def]
    make(tmp_path / "a.mp4")
    with pytest.raises(DataError, match=complaint):
        read(tmp_path / "a.mp4")


@pytest.mark.parametrize(("suffix", "codec"), [("mkv", "libx264"), ("webm", "libvpx")])
def test_a_file_that_declares_its_length_elsewhere_is_refused_if_cut_off(
    tmp_path: Path, suffix: str, codec: str
) -> None:
    path = write_video(tmp_path / f"a.{suffix}", noise(40), codec=codec)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"it is cut off: it ends after [12]\.?\d* s of 4 s"):
        read(path)


def test_a_film_may_begin_late_and_end_before_its_sound(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as film:
        stream, sound = film.add_stream("libx264", rate=10), film.add_stream("aac", rate=8000)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        for index, grey in enumerate(numbered(10)):
            picture = av.VideoFrame.from_ndarray(grey, format="rgb24")
            picture.pts, picture.time_base = 20 + index, Fraction(1, 10)
            film.mux(stream.encode(picture))
        for index in range(80):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 8000, 1024 * index
            film.mux(sound.encode(frame))
        film.mux(stream.encode())
        film.mux(sound.encode())
    assert numbers(read(path)) == list(range(10))


def test_a_gif_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_bytes(b"GIF89a junk")
    with pytest.raises(DataError, match="cannot be read as a GIF"):
        read(tmp_path / "a.gif")


def test_frames_in_files_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    names = [f"frame{index}.png" for index in range(12)]
    for name, frame in zip(names, numbered(12), strict=True):
        Image.fromarray(frame).save(tmp_path / name)
    assert in_order(sorted(names)) == names
    found = read_stills([tmp_path / name for name in names], "film", FIT, 5.0)
    assert numbers(found) == list(range(12))


def test_frames_of_changing_size_are_refused(tmp_path: Path) -> None:
    for index, side in enumerate((8, 8, 9)):
        Image.fromarray(np.zeros((8, side, 3), np.uint8)).save(tmp_path / f"{index}.png")
    files = sorted(tmp_path.iterdir())
    with pytest.raises(DataError, match="change their size: frame 2 has 9x8 pixels, the first 8x8"):
        read_stills(files, "film", FIT, None)
    files[1].write_bytes(b"junk")
    with pytest.raises(DataError, match=r"1.png is not an image"):
        read_stills(files, "film", FIT, None)


def test_pictures_beyond_the_limit_of_pillow_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [Image.fromarray(frame) for frame in numbered(2)]
    pictures[0].save(tmp_path / "a.png")
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 32 * 48 // 4)
    with pytest.raises(DataError, match=r"a.png cannot be read: .*decompression bomb"):
        read_stills([tmp_path / "a.png"], "film", FIT, None)
    with pytest.raises(DataError, match=r"cannot be read as a GIF: .*decompression bomb"):
        read(tmp_path / "a.gif")


def test_even_times_of_uneven_frames() -> None:
    frames = [(Shown(1.0, 1.1), "a"), (Shown(1.1, 1.5), "b"), (Shown(1.5, 1.6), "c")]
    assert "".join(resampled(frames, 10)) == "abbbbc"
    assert "".join(resampled(frames, 5)) == "abb"
    assert "".join(resampled(frames[:1], 2)) == "a"
    assert variation([shown for shown, _ in frames]) is not None
    assert variation([Shown(index / 3, (index + 1) / 3) for index in range(5)]) is None
