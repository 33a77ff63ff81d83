"""Pictures as films: GIF, or MP4 (H.264) by PyAV."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image

from narrows.atomic import whole_file
from narrows.errors import NarrowsError

__all__ = ["save_gif", "save_mp4"]

COLOURS = 48


def save_gif(path: Path, frames: Iterable[np.ndarray], rate: float, colours: int = COLOURS) -> None:
    """Write pictures uint8 [H, W, 3] as a GIF that repeats without end.

    A GIF counts in hundredths of a second, so frames are up to 10 ms early or late, which does not add up.

    Args:
        path: the file.
        frames: at least one picture.
        rate: frames per second.
        colours: number of colours, those of the picture in the middle.
    """
    pictures = [Image.fromarray(frame) for frame in frames]
    palette = pictures[len(pictures) // 2].quantize(colours)
    first, *others = (picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures)
    times = [round(100 * frame / rate) for frame in range(len(pictures) + 1)]
    milliseconds = [10 * (end - start) for start, end in pairwise(times)]
    with whole_file(path) as aside:
        first.save(aside, "GIF", save_all=True, append_images=others, duration=milliseconds, loop=0)


def save_mp4(path: Path, frames: Iterable[np.ndarray], rate: float) -> None:
    """Write pictures uint8 [H, W, 3], of even size, as an MP4 that browsers and presentations play; see `save_gif`.

    Raises:
        NarrowsError: if PyAV is not installed.
    """
    av, pictures = _av(), iter(frames)
    first = next(pictures)
    with whole_file(path) as aside, av.open(aside, "w", format="mp4") as film:
        stream = film.add_stream("libx264", rate=Fraction(rate).limit_denominator(1001))
        stream.height, stream.width, stream.pix_fmt = *first.shape[:2], "yuv420p"
        for frame in chain([first], pictures):
            film.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        film.mux(stream.encode())


def _av() -> ModuleType:
    try:
        import av
    except ImportError as error:
        raise NarrowsError(f"MP4 needs the package av ({error}): pip install 'narrows[motion]'") from error
    return av
