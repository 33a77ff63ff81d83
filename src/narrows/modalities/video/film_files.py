"""Films from video files (by PyAV) and from GIFs (by Pillow), sampled by their timestamps."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageSequence

from narrows.data.errors import DataError
from narrows.data.films import require_av
from narrows.errors import NarrowsError
from narrows.modalities.video.recording import Fit, Recording
from narrows.modalities.video.timing import Shown, resampled, variation

__all__ = ["FILMS", "read_film"]

FILMS = (".mp4", ".avi", ".webm", ".mkv", ".mov", ".m4v", ".mpg", ".mpeg", ".gif")
MISSING = 0.02
"""The largest share of its declared duration that a whole file may lack."""
MICROSECONDS = 1e6
SHORTEST, DEFAULT = 0.02, 0.1
"""Browsers show a GIF's frames of a shorter duration than the first, in seconds, for the second."""

logger = logging.getLogger(__name__)


class _Film(NamedTuple):
    """An opened file: its average frame rate, its frames, and what converts a frame, which may take long."""

    rate: float | None
    frames: Iterator[tuple[Shown, Any]]
    convert: Callable[[Any], Image.Image]


def read_film(path: Path, name: str, fit: Fit, rate: float | None) -> Recording:
    """Read a video file or GIF; a note is logged if its frame rate varies.

    Args:
        path: the file.
        name: the name of the recording.
        fit: the size of the frames.
        rate: frames per second to sample; None for the average rate of the file.

    Raises:
        DataError: if it cannot be read, or ends before the time that it declares. AVI and MPEG files that were cut off
            declare none.
    """
    shown: list[Shown] = []

    def noted(frames: Iterator[tuple[Shown, Any]]) -> Iterator[tuple[Shown, Any]]:
        for when, frame in frames:
            shown.append(when)
            yield when, frame

    opened = _gif if path.suffix.lower() == ".gif" else _video
    with opened(path) as film:
        rate = rate or film.rate
        if not rate:
            raise DataError("its frame rate is unknown: set data.rate")
        frames = fit.stacked(map(film.convert, resampled(noted(film.frames), rate)))
    if found := variation(shown):
        logger.warning(
            "%s: its frame rate varies from %.4g to %.4g frames/s; sampled at %.4g by the times of its frames",
            path,
            *found,
            rate,
        )
    return Recording(name, frames, rate)


@contextmanager
def _gif(path: Path) -> Iterator[_Film]:
    try:
        with Image.open(path) as image:
            durations = [frame.info.get("duration", 0) / 1000 for frame in ImageSequence.Iterator(image)]
            durations = [DEFAULT if duration < SHORTEST else duration for duration in durations]
            ends = np.cumsum(durations).tolist()
            starts = [0.0, *ends[:-1]]
            pictures = (frame.copy() for frame in ImageSequence.Iterator(image))
            yield _Film(len(ends) / ends[-1], zip(map(Shown, starts, ends), pictures, strict=True), _same)
    except NarrowsError:
        raise
    except (OSError, EOFError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"it cannot be read as a GIF: {error}") from error


@contextmanager
def _video(path: Path) -> Iterator[_Film]:
    av = require_av("video")
    try:
        with av.open(str(path)) as container:
            streams = [
                one for one in container.streams.video if not one.disposition & av.stream.Disposition.attached_pic
            ]
            if not streams:
                raise DataError("it has no video stream")
            stream = streams[0]
            stream.thread_type = "AUTO"
            rate = stream.average_rate or stream.guessed_rate
            yield _Film(float(rate) if rate else None, _decoded(container, stream, float(rate or 25)), _upright)
    except NarrowsError:
        raise
    except (av.error.FFmpegError, ValueError, RuntimeError) as error:
        raise DataError(f"it cannot be read as a video: {error}") from error


def _decoded(container: Any, stream: Any, rate: float) -> Iterator[tuple[Shown, Any]]:
    end = start = 0.0
    for index, frame in enumerate(container.decode(stream)):
        if frame.is_corrupt:
            raise DataError(f"frame {index} is damaged")
        begin = end if frame.time is None else float(frame.time)
        start = start if index else begin
        lasts = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else 1 / rate
        end = begin + lasts
        yield Shown(begin, end), frame
    declared = (
        float(stream.duration * stream.time_base) if stream.duration else _declared_end(container, stream) - start
    )
    if end - start < declared - max(2 / rate, MISSING * declared):
        raise DataError(f"it is cut off: it ends after {end - start:.3g} s of {declared:.3g} s")


def _declared_end(container: Any, stream: Any) -> float:
    """Return the time at which the video of a Matroska or WebM file ends by its header, in seconds; 0 if unknown.

    The time of the whole file may be that of a longer sound track. For other formats it would be an estimate.
    """
    if not container.duration or "matroska" not in container.format.name:
        return 0.0
    end = container.duration / MICROSECONDS
    tag = next((text for name, text in stream.metadata.items() if name.upper().startswith("DURATION")), "")
    if match := re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", tag):
        hours, minutes, seconds = map(float, match.groups())
        return min(end, 3600 * hours + 60 * minutes + seconds)
    return end if len(container.streams) == 1 else 0.0


def _upright(frame: Any) -> Image.Image:
    picture = frame.to_image()
    return picture.rotate(frame.rotation, expand=True) if frame.rotation else picture


def _same(picture: Image.Image) -> Image.Image:
    return picture
