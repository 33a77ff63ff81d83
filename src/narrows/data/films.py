"""Write pictures as a film, GIF or MP4 (H.264)."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image

from narrows.atomic import whole_file
from narrows.errors import NarrowsError

__all__ = ["require_av", "save_gif", "save_mp4"]

FASTEST = 50.0
"""The most frames per second of a GIF that browsers show at its rate."""
PALETTE = 16
"""The most pictures that the palette of a GIF is made for."""


def save_gif(path: Path, frames: Iterable[np.ndarray], rate: float, colours: int = 256) -> None:
    """Write pictures as a GIF that repeats without end, with one palette for all.

    A GIF counts in hundredths of a second, so frames are up to 10 ms early or late, which does not add up. Browsers
    show frames of less than 20 ms for 100 ms, so of more than 50 frames per second 50 are kept.

    Args:
        path: the file.
        frames: at least one, uint8 [H, W, 3].
        rate: frames per second.
        colours: the number of colours of the palette, which is that of 16 pictures spread over the film.
    """
    pictures = [Image.fromarray(frame) for frame in frames]
    if rate > FASTEST:
        shown = max(1, round(len(pictures) * FASTEST / rate))
        pictures, rate = [pictures[int(index * rate / FASTEST)] for index in range(shown)], FASTEST
    spread = np.linspace(0, len(pictures) - 1, min(PALETTE, len(pictures))).round().astype(int)
    palette = Image.fromarray(np.concatenate([np.asarray(pictures[index]) for index in spread])).quantize(colours)
    first, *others = (picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures)
    times = [round(100 * frame / rate) for frame in range(len(pictures) + 1)]
    milliseconds = [10 * (end - start) for start, end in pairwise(times)]
    with whole_file(path) as aside:
        first.save(aside, "GIF", save_all=True, append_images=others, duration=milliseconds, loop=0)


def save_mp4(path: Path, frames: Iterable[np.ndarray], rate: float, quality: int = 23) -> None:
    """Write pictures as an MP4 that browsers and presentations play; call `require_av` before.

    Args:
        path: the file.
        frames: at least one, uint8 [H, W, 3]; H.264 needs even sizes, so the last row or column is repeated.
        rate: frames per second.
        quality: the encoder's constant rate factor; lower is better, and 18 looks like the original.
    """
    import av

    with whole_file(path) as aside, av.open(aside, "w", format="mp4") as film:
        stream = None
        for frame in frames:
            even = np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), "edge")
            if stream is None:
                fraction = Fraction(rate).limit_denominator(1001)
                stream = film.add_stream("libx264", rate=fraction, options={"crf": str(quality)})
                stream.height, stream.width, stream.pix_fmt = *even.shape[:2], "yuv420p"
            film.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        if stream is not None:
            film.mux(stream.encode())


def require_av(extra: str) -> ModuleType:
    """Return PyAV.

    Args:
        extra: the extra of this package that it is in.

    Raises:
        NarrowsError: if it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise NarrowsError(
            f"MP4 and other video files need the package av ({error}): pip install 'narrows[{extra}]'"
        ) from error
    return av
