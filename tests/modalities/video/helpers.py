"""Small films made for tests: a square that moves as the actions say, before a background of its own."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

SIZE = 16


def walk(frames: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Frames uint8 [T, 16, 16, 3] of a white square, and the actions: 0 it goes left, 1 right, 2 it stays."""
    generator = np.random.default_rng(seed)
    actions = generator.integers(0, 3, frames)
    pictures = np.empty((frames, SIZE, SIZE, 3), np.uint8)
    pictures[:] = generator.integers(0, 128, 3)
    column = 6
    for index, action in enumerate(actions.tolist()):
        pictures[index, 6:10, column : column + 4] = 255
        column = int(np.clip(column + (-2, 2, 0)[action], 0, SIZE - 4))
    return pictures, actions


def column_of(frame: np.ndarray) -> int:
    """The column of the square in a frame [16, 16, 3]."""
    return int((frame[7, :, 0] > 200).argmax())


def write_walks(path: Path, episodes: int = 4, length: int = 20, **more: object) -> Path:
    """An npz file of several episodes."""
    walks = [walk(length, seed) for seed in range(episodes)]
    content = {
        "frames": np.concatenate([pictures for pictures, _ in walks]),
        "actions": np.concatenate([actions for _, actions in walks]).astype(np.int8),
        "episode": np.repeat(np.arange(episodes), length),
        **more,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{name: value for name, value in content.items() if value is not None})
    return path


def numbered(frames: int, size: tuple[int, int] = (32, 48)) -> np.ndarray:
    """Frames [T, H, W, 3] in flat greys that tell which is which, 6 levels from one to the next."""
    grey = 20 + 6 * np.arange(frames, dtype=np.uint8)
    return np.broadcast_to(grey[:, None, None, None], (frames, *size, 3)).copy()


def number_of(frame: np.ndarray) -> int:
    """The number of a frame of `numbered` after lossy compression."""
    return round((float(frame.mean()) - 20) / 6)


def write_video(
    path: Path,
    frames: np.ndarray,
    rate: int = 10,
    codec: str = "libx264",
    times: list[int] | None = None,
    **options: str,
) -> Path:
    """A video file; `times` are those of the frames in milliseconds, for a variable frame rate."""
    with av.open(str(path), "w", options=options) as film:
        stream = film.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.bit_rate = 4_000_000
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            if times is not None:
                picture.pts, picture.time_base = times[index], Fraction(1, 1000)
            film.mux(stream.encode(picture))
        film.mux(stream.encode())
    return path
