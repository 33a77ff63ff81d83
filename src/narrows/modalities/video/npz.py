"""Recordings in npz files: frames, with the actions taken and the marks of episodes.

frames        uint8 [T, H, W, 3]
actions       numbers of actions, integers [T], or vectors of numbers [T, D]; optional. The action at index t is taken
              when frame t is seen, and leads to frame t + 1.
episode       any numbers [T]; optional. Where it changes, an episode ends, and the next frame shows another.
rate          frames per second; optional.
action_names  the names of the actions 0, 1, ...; optional.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from narrows.atomic import whole_file
from narrows.data.errors import DataError
from narrows.modalities.video.recording import SAME_RATE, Fit, Recording

__all__ = ["read_npz", "write_npz"]

MOST = 1000
"""The most different actions."""


def read_npz(path: Path, name: str, fit: Fit, rate: float | None) -> list[Recording]:
    """Read the recordings of an npz file, one for each episode.

    Args:
        path: the file.
        name: the name of the recordings, to which the number of the episode is added.
        fit: the size of the frames.
        rate: frames per second, which must be those of the file if it says them; None for these.

    Raises:
        DataError: if it cannot be read, or lacks something.
    """
    content = _content(path)
    frames = content.get("frames")
    if frames is None:
        raise DataError(f"it has no array `frames`, only {', '.join(content) or 'nothing'}")
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or not frames.size:
        raise DataError(f"its frames must be uint8 [T, H, W, 3], not {frames.dtype} {list(frames.shape)}")
    actions = _actions(content.get("actions"), len(frames))
    names = _names(content.get("action_names"))
    rate = _rate(content.get("rate"), rate)
    fitted, marks = fit.resized(frames), content.get("episode")
    if marks is not None and marks.shape != (len(frames),):
        raise DataError(f"its episode has the shape {list(marks.shape)}, but there are {len(frames)} frames")
    ends = [] if marks is None else (np.flatnonzero(marks[1:] != marks[:-1]) + 1).tolist()
    parts = list(zip([0, *ends], [*ends, len(frames)], strict=True))
    return [
        Recording(
            name if len(parts) == 1 else f"{name} episode {number}",
            fitted[begin:end],
            rate,
            None if actions is None else actions[begin:end],
            actions is None and marks is None,
            names,
        )
        for number, (begin, end) in enumerate(parts)
    ]


def write_npz(
    path: Path,
    frames: np.ndarray,
    actions: np.ndarray,
    episode: np.ndarray,
    rate: float,
    action_names: Sequence[str],
) -> None:
    """Write recordings to an npz file; for the arrays see the module."""
    content: dict[str, Any] = {
        "frames": frames,
        "actions": actions,
        "episode": episode,
        "rate": np.array(rate),
        "action_names": np.array(action_names),
    }
    with whole_file(path) as aside, aside.open("wb") as file:
        np.savez_compressed(file, **content)


def _content(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as opened:
            return {name: opened[name] for name in opened.files}
    except Exception as error:  # a damaged file can make zip, zlib and NumPy raise anything
        raise DataError(f"it cannot be read as npz: {error}") from error


def _names(names: np.ndarray | None) -> tuple[str, ...]:
    if names is None:
        return ()
    if names.ndim != 1 or names.dtype.kind not in "US":
        raise DataError(f"its action_names must be a list of texts [N], not {names.dtype} {list(names.shape)}")
    try:
        found = tuple((names if names.dtype.kind == "U" else np.char.decode(names, "utf-8")).tolist())
    except UnicodeDecodeError as error:
        raise DataError(f"its action_names are not UTF-8: {error}") from error
    if len(set(found)) < len(found):
        raise DataError(f"its action_names have a name twice: {', '.join(found)}")
    return found


def _rate(own: np.ndarray | None, wanted: float | None) -> float | None:
    """Return the frames per second of a file that says `own`, for data of the rate `wanted`."""
    if own is None:
        return wanted
    if own.size != 1 or own.dtype.kind not in "iuf" or not 0 < float(own.item()) < float("inf"):
        raise DataError(f"its rate is {own}: it must be a positive number of frames per second")
    rate = float(own.item())
    if wanted is not None and abs(rate / wanted - 1) > SAME_RATE:
        raise DataError(f"it has {rate:.4g} frames/s, not {wanted:.4g}, and npz files are not sampled at other rates")
    return rate


def _actions(actions: np.ndarray | None, frames: int) -> np.ndarray | None:
    if actions is None:
        return None
    if actions.ndim not in (1, 2) or actions.dtype.kind not in "iuf":
        raise DataError(f"its actions must be numbers [T] or vectors [T, D], not {actions.dtype} {list(actions.shape)}")
    if len(actions) != frames:
        raise DataError(f"it has {len(actions)} actions for {frames} frames: there must be one for each frame")
    if actions.dtype.kind in "iu" and actions.ndim == 1:
        if actions.min() < 0:
            raise DataError(f"the action at index {int(actions.argmin())} is {actions.min()}: it must be at least 0")
        if actions.max() >= MOST:
            raise DataError(
                f"the action at index {int(actions.argmax())} is {actions.max()}: each number up to it is a feature, "
                f"so {MOST:,} are the most; number the actions 0, 1, 2, ... without gaps"
            )
        return actions.astype(np.int64)
    vectors = actions.reshape(frames, -1).astype(np.float32)
    if not np.isfinite(vectors).all():
        raise DataError(f"the action at index {int(np.argmin(np.isfinite(vectors).all(1)))} is not finite")
    return vectors
