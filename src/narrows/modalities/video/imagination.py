"""Frames imagined after given ones wholly in the space of codes: the prior draws them, and the decoder is run last.

van den Oord et al. 2017, section 4.4 and figure 7.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from narrows.commands.source import open_run
from narrows.data.errors import DataError
from narrows.data.films import require_av
from narrows.decoding import require_prior
from narrows.errors import NarrowsError
from narrows.modalities.video.action_lists import features_of_text
from narrows.modalities.video.actions import Actions
from narrows.modalities.video.clips import VideoClips
from narrows.modalities.video.films import save_strip, write_film
from narrows.modalities.video.player import Films
from narrows.modalities.video.reading import read_recordings
from narrows.models import Autoencoder
from narrows.pretrained import load
from narrows.priors import Condition, Prior, continue_codes, guided
from narrows.progress import Progress, hidden
from narrows.report.page import Page, Section, write_page
from narrows.sampling import Sampling

__all__ = ["Imagined", "Start", "imagine", "imagine_codes", "imagined", "prior_of", "read_start"]

DEFAULT_FRAMES = 10
"""Frames to imagine if neither their number nor actions are given."""
SUFFIXES = (".mp4", ".gif")
"""Of the films of each clip."""
STRIP = 32
"""The most frames in a row of the strip."""


class Start(NamedTuple):
    """The frames to continue."""

    x: Tensor
    """The frames, [3, T, H, W]."""
    features: np.ndarray
    """The features of the action that led to each, float32 [T, channels]; zeros where it is unknown."""
    name: str


class Imagined(NamedTuple):
    """Frames imagined after given ones, several times."""

    names: list[str]
    """The actions, with the number of the draw if there are several."""
    clips: list[Tensor]
    """The given frames as their codes show them, and the imagined ones, [3, given + imagined, H, W] each."""


def imagine(
    folder: str,
    start: str,
    given: int = 6,
    actions: Sequence[str] = (),
    imagine: int | None = None,
    n: int = 1,
    out: Path | None = None,
    sampling: Sampling | None = None,
    guidance: float = 0.0,
    scale: int | None = None,
    progress: Progress = hidden,
) -> Path:
    """Write what follows given frames under lists of actions as MP4 and GIF films, a strip and a page; return its path.

    Args:
        folder: the run folder, or its id on the hub.
        start: the file or folder of the given frames, and `@` with the index of the first of them if it is not 0.
        given: number of given frames.
        actions: lists of actions, each imagined by itself; see `features_of_text`. None leaves them unknown.
        imagine: number of imagined frames; None for one for each action of a list. After a shorter list, actions are
            unknown.
        n: number of draws for each list.
        out: folder to write to; None means `imagined` in the run folder.
        sampling: how codes are drawn; None for the defaults with seed 0.
        guidance: how much more the frames follow the actions than those of the data do; see `narrows.priors.Guided`.
        scale: integer magnification; None for one that makes films about 240 pixels wide.
        progress: shows the progress.

    Raises:
        NarrowsError: if the model is not one of video with a prior over frames, there is no such action, a number is
            below 1 or there are more actions than frames, or PyAV is not installed.
        DataError: if the frames cannot be read, or are fewer than `given`.
    """
    for option, value in (("--frames", given), ("--imagine", imagine), ("-n", n)):
        if value is not None and value < 1:
            raise NarrowsError(f"{option} is {value}: it must be at least 1")
    require_av("video")
    model, sampling = load(folder), sampling or Sampling(seed=0)
    prior = guided(prior_of(folder, model, sampling), guidance)
    known = Actions.of(model.spec.details)
    lists = {text: features_of_text(text, known) for text in actions}
    lists = lists or {"": np.zeros((imagine or DEFAULT_FRAMES, known.channels), np.float32)}
    for text, features in lists.items():
        if imagine is not None and len(features) > imagine:
            raise NarrowsError(f"--actions {text}: {len(features)} actions for the {imagine} frames of --imagine")
    found = read_start(start, given, model)
    done = imagined(model, prior, found, lists, imagine or max(map(len, lists.values())), n, sampling, progress)
    return _write(out or open_run(folder).outputs / "imagined", done, found.name, given, model.spec.rate, scale)


def imagined(
    model: Autoencoder,
    prior: Prior,
    start: Start,
    lists: dict[str, np.ndarray],
    count: int,
    n: int,
    sampling: Sampling,
    progress: Progress = hidden,
) -> Imagined:
    """Return what follows a start under lists of actions, all drawn at once.

    Args:
        model: the model of the codes.
        prior: its prior.
        start: the given frames.
        lists: features of the actions by their names, float32 [up to `count`, channels] each.
        count: number of imagined frames.
        n: number of draws for each list.
        sampling: how codes are drawn.
        progress: shows the progress.
    """
    device = next(model.parameters()).device
    codes = model.encode(start.x.unsqueeze(0).to(device)).repeat_interleave(len(lists) * n, 0)
    rows = [np.pad(features, ((0, count - len(features)), (0, 0))) for features in lists.values()]
    features = np.stack([np.concatenate([start.features, row]) for row in rows]).repeat(n, 0)
    with progress("imagine", count, "frames") as meter:
        codes = imagine_codes(prior, codes, torch.from_numpy(features), sampling, meter.to)
    names = [f"{name} {draw}".strip() if n > 1 else name for name in lists for draw in range(1, n + 1)]
    return Imagined(names, list(model.decode(codes).cpu()))


def imagine_codes(
    prior: Prior,
    codes: Tensor,
    features: Tensor,
    sampling: Sampling,
    progress: Callable[[int], None] = lambda done: None,
) -> Tensor:
    """Return codes followed by those of imagined frames, [B, T, h, w] or [B, T, h, w, M].

    Args:
        prior: the prior.
        codes: the codes of given frames, [B, N, h, w] or [B, N, h, w, M].
        features: the features of the action that led to each of all frames, [B, T, channels].
        sampling: how codes are drawn.
        progress: called with the number of frames drawn.
    """
    condition = Condition(features=features.mT[..., None, None] if prior.channels else None)
    return continue_codes(prior, codes, features.shape[1] - codes.shape[1], condition, sampling, progress)


def prior_of(folder: str, model: Autoencoder, sampling: Sampling) -> Prior:
    """Return the prior over the codes of a model of video.

    Raises:
        NarrowsError: if there is none, or the codes are global ones of several frames together.
    """
    if model.spec.modality != "video":
        raise NarrowsError(f"{folder} is a model of {model.spec.modality}: `narrows imagine` continues videos")
    if not model.discrete:
        raise NarrowsError(
            f"the latents of {folder} are continuous, and no prior draws those that follow others: use a model with "
            "codes, such as vqvae-video"
        )
    if model.stages > 1:
        raise NarrowsError(
            f"each code of {folder} describes {model.hop} frames together, so no prior draws one frame after another: "
            "imagine with the run of its first stage"
        )
    prior = model.sampled_prior
    require_prior(folder, model, prior, sampling, None)
    assert prior is not None
    return prior


def read_start(start: str, given: int, model: Autoencoder) -> Start:
    """Return the given frames of a file or folder, at the size and rate of a model.

    Args:
        start: the file or folder, and `@` with the index of the first frame if it is not 0; in an npz file, frames are
            counted over all its episodes.
        given: their number.
        model: the model.

    Raises:
        DataError: if they cannot be read, have other actions than the model's data, or end before.
    """
    path, at, text = start.rpartition("@")
    if not at or not text.isdecimal() or Path(start).exists():
        path, text = start, "0"
    first, spec = int(text), model.spec
    try:
        recordings = read_recordings(Path(path), spec)
    except DataError as error:
        raise DataError(f"--start {path}: {error}") from error
    for recording in recordings:
        if first < len(recording.frames):
            break
        first -= len(recording.frames)
    else:
        raise DataError(f"--start {start}: it has no frame {text}")
    if len(recording.frames) - first < given:
        raise DataError(
            f"--start {start}: only {len(recording.frames) - first} frames follow in {recording.name}, not the {given} "
            "of --frames: begin earlier, or give fewer"
        )
    known = Actions.of(spec.details)
    if recording.actions is not None:
        try:
            recording = known.matched(recording)
        except DataError as error:
            raise DataError(f"--start {path}: {error}") from error
    features = known.features(recording.actions, len(recording.frames))
    part = slice(first, first + given)
    x = VideoClips.to_x(torch.from_numpy(recording.frames[part]))
    return Start(x, features[part], f"{recording.name} at frame {first}")


def _remove_earlier(out: Path, clips: int) -> None:
    """Remove the films after the first `clips` where an earlier call wrote them, with its page and strip."""
    if (out / "index.html").exists() and (out / "strip.png").exists():
        for film in out.glob("[0-9][0-9][0-9].*"):
            if film.suffix in SUFFIXES and int(film.stem) >= clips:
                film.unlink()


def _write(out: Path, done: Imagined, start: str, given: int, rate: float | None, scale: int | None) -> Path:
    _remove_earlier(out, len(done.clips))
    for index, clip in enumerate(done.clips):
        for suffix in SUFFIXES:
            write_film(out / f"{index:03}{suffix}", [clip], rate, scale)
    length = done.clips[0].shape[1]
    shown = range(length) if length <= STRIP else np.linspace(0, length - 1, STRIP).round().astype(int).tolist()
    save_strip(out / "strip.png", done.clips, list(shown), scale or 1)
    named = [(name or "unknown actions", clip) for name, clip in zip(done.names, done.clips, strict=True)]
    caption = f"The first {given} frames are given, from {start}; the others are imagined."
    films = Films(caption, [named[at : at + 3] for at in range(0, len(named), 3)], rate)
    page = Page(f"Imagined after {start}", sections=[Section("Films", blocks=[films])])
    write_page(out / "index.html", page)
    return out / "index.html"
