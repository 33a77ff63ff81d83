"""The video modality: how videos are opened, read, written, measured and shown."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log2, prod
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from narrows.config import TrainingRecipe
from narrows.data import Data, DataError, Examples, Spec
from narrows.errors import NarrowsError
from narrows.evaluation.pixels import pixel_errors
from narrows.modalities.video.actions import Actions
from narrows.modalities.video.clips import VideoClips
from narrows.modalities.video.dataset import VideoData, open_video
from narrows.modalities.video.evaluate import evaluate_imagination
from narrows.modalities.video.film_files import FILMS
from narrows.modalities.video.films import save_strip, write_film
from narrows.modalities.video.future_bits import FUTURE_BITS
from narrows.modalities.video.player import Films
from narrows.modalities.video.reading import read_recordings
from narrows.modalities.video.report import imagination_section
from narrows.modalities.video.settings import VideoSettings
from narrows.modalities.video.stills import STILLS
from narrows.modality import Modality, Row
from narrows.models import Autoencoder
from narrows.progress import Progress
from narrows.report.page import Block, Page, Section, write_page
from narrows.report.pictures import grid
from narrows.report.sections import reconstructed
from narrows.training.run import RunFolder

__all__ = ["MODALITY", "VideoModality", "VideoRecipe", "strip"]

SHOWN = 6
"""Number of reconstructions in the report."""
FRAMES = 10
"""Frames of a clip in a strip."""
COLUMNS = 3
"""Single clips in a row of a page."""

logger = logging.getLogger(__name__)


@dataclass
class VideoRecipe(TrainingRecipe):
    """Recipe of `narrows train` for video.

    Args:
        model: the model.
        estimator: the loss and how its gradient is estimated.
        data: the data to train on.
        training: the settings of training.
        on: for a model upon another, the run folder of the first stage or its id on the hub; None for others.
        modality: the kind of data.
    """

    data: VideoSettings
    modality: Literal["video"] = "video"


class VideoModality(Modality):
    """Clips of frames [3, T, H, W] in [0, 1], of any number of frames."""

    name = "video"
    unit = "clips"
    dimension = "pixels"
    suffix = ".mp4"
    # Files of npz are read, too, but may hold anything.
    extensions = (*FILMS, *STILLS)
    recipe = VideoRecipe
    default_prior = "frames"
    has_figures = True
    units: ClassVar[Mapping[str, str]] = {
        "mse": "mean over pixels in [0, 1]",
        "psnr": "dB",
        "ssim": "of 1",
        **dict.fromkeys(FUTURE_BITS, "bits/code"),
        "sharpness": "variance of the Laplacian",
        "sharpness_ratio": "ratio to reconstructions",
        "action_accuracy": "of 1",
        "frechet": "squared distance of features",
    }
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **dict.fromkeys(("reconstruct", "interpolate", "sample"), ("film", "scale")),
        "evaluate": ("imagine", "guidance"),
    }

    def open(
        self, settings: VideoSettings, progress: Progress, quiet: bool = False, spec: Spec | None = None
    ) -> VideoData:
        """Find, read and split videos; given `spec`, at the size and rate of its model."""
        return open_video(settings, quiet, progress, spec)

    def fitted(self, spec: Spec) -> str:
        """Return the size and the rate of the model's frames."""
        size = "x".join(map(str, spec.shape[:1:-1]))
        rate = "" if spec.rate is None else f", and films are sampled at {spec.rate:.4g} frames/s"
        return f"frames are scaled and cropped to the model's {size} pixels{rate}"

    def read(self, files: Sequence[Path], spec: Spec) -> list[Tensor]:
        """Return the clips [3, T, H, W] of files, or of folders of frames; of several episodes, the first."""
        found = []
        for file in files:
            try:
                recordings = read_recordings(file, spec)
            except DataError as error:
                raise DataError(f"{file}: {error}") from error
            if len(recordings) > 1:
                logger.info("%s: the first of %d episodes", file, len(recordings))
            found.append(VideoClips.to_x(torch.from_numpy(recordings[0].frames)))
        return found

    def write(self, path: Path, x: Tensor, spec: Spec) -> None:
        """Write an MP4 file, or a GIF if that is the suffix of the path."""
        write_film(path, [x], spec.rate, scale=1)

    def save_rows(
        self,
        out: Path,
        title: str,
        rows: Sequence[Row],
        spec: Spec,
        film: str = "mp4",
        scale: int | None = None,
        **options: Any,
    ) -> Path:
        """Write a film of each clip, a strip of all, and a page that plays them, and return the page's path."""
        named = [(row.name, x) for row in rows for x in row.examples]
        for index, (_, x) in enumerate(named):
            write_film(out / f"{index:03}.{film}", [x], spec.rate, scale)
        clips = [x for _, x in named]
        save_strip(out / "strip.png", clips, _spread(clips[0].shape[1]), scale or 1)
        cells = [(name or str(index), x) for index, (name, x) in enumerate(named)]
        films = Films(title, [cells[at : at + COLUMNS] for at in range(0, len(cells), COLUMNS)], spec.rate)
        return _page(out / "index.html", title, [films])

    def save_versions(
        self,
        out: Path,
        title: str,
        names: Sequence[str],
        versions: Mapping[str, Sequence[Tensor]],
        spec: Spec,
        film: str = "mp4",
        scale: int | None = None,
        **options: Any,
    ) -> Path:
        """Write a film and a strip of each clip with its versions, and a page that plays them; return its path."""
        for name, row in zip(names, zip(*versions.values(), strict=True), strict=True):
            write_film(out / f"{name}.{film}", row, spec.rate, scale)
            save_strip(out / f"{name}.png", row, _spread(row[0].shape[1]), scale or 1)
        return _page(out / "index.html", title, [self.show_versions(versions, spec, title)])

    def show_rows(self, rows: Sequence[Row], spec: Spec, caption: str) -> Block:
        """Return the clips to play, a few in a row."""
        cells = [(row.name or str(index), row.examples) for index, row in enumerate(rows, 1)]
        played = [(name, x) for name, examples in cells for x in examples]
        return Films(caption, [played[at : at + COLUMNS] for at in range(0, len(played), COLUMNS)], spec.rate)

    def show_versions(self, versions: Mapping[str, Sequence[Tensor]], spec: Spec, caption: str) -> Block:
        """Return the versions of each clip side by side, to play."""
        rows = [list(zip(versions, row, strict=True)) for row in zip(*versions.values(), strict=True)]
        return Films(caption, rows, spec.rate)

    def figures(self, x: Tensor, reconstruction: Tensor, spec: Spec) -> dict[str, Tensor]:
        """Return `mse`, `psnr` (dB) and `ssim` of frames, the means over those of each clip; see `pixel_errors`."""
        frames = (part.transpose(1, 2).flatten(0, 1) for part in (x, reconstruction))
        return {name: values.view(len(x), -1).mean(1) for name, values in pixel_errors(*frames).items()}

    def describe(self, data: Data, spec: Spec) -> str:
        """Return the number of frames and clips for training, their size, and the actions."""
        assert isinstance(data, VideoData)
        frames, size = int(data.train.lengths.sum()), "×".join(map(str, spec.shape[:1:-1]))
        actions = Actions.of(spec.details).about
        rate = f" at {spec.rate:.4g} Hz" if spec.rate else ""
        about = f"{frames:,} frames of {size} pixels{rate} for training, in {len(data.train):,} clips"
        about += ", also mirrored" if data.permutation is not None else ""
        return f"{about}, with {actions}" if actions else about

    def facts(self, model: Autoencoder, figures: Mapping[str, float]) -> dict[str, str]:
        """Return the PSNR of reconstructions and, for discrete models, the bits of a frame's codes."""
        facts = {"reconstruction": f"{figures['psnr']:.1f} dB PSNR"}
        if model.discrete:
            bits = prod(model.codes.grid) * model.codes.codebooks * log2(model.codes.codebook_size) / model.shape[1]
            share = 8 * model.dimensions / model.shape[1] / bits if bits else 0
            facts["a frame"] = f"{bits:.0f} bits" + (f", 1/{share:.0f} of the bits of its pixels" if bits else "")
        return facts

    def evaluate(
        self,
        run: RunFolder,
        model: Autoencoder,
        data: Data,
        examples: Examples,
        split: str,
        source: str | None,
        progress: Progress,
        imagine: int | None = None,
        guidance: float | None = None,
        **options: Any,
    ) -> dict[str, float]:
        """Return figures of imagined frames; see `evaluate_imagination`."""
        if imagine is None:
            if guidance is not None:
                raise NarrowsError(f"--guidance {guidance}: it is for imagined frames; also give --imagine N")
            return {}
        if source is not None:
            raise NarrowsError(
                f"--imagine {imagine}: imagined frames are judged by what is learned from the run's own training data; "
                "leave --data out"
            )
        assert isinstance(data, VideoData)
        assert isinstance(examples, VideoClips)
        return evaluate_imagination(run, model, data, examples, split, imagine, guidance or 0.0, progress)

    def reconstructions(self, model: Autoencoder, examples: Examples, progress: Progress) -> Iterator[Section]:
        """Yield the section with some clips next to their reconstructions, and strips of them."""
        assert isinstance(examples, VideoClips)
        rows, strips, device = [], [], next(model.parameters()).device
        for index in range(min(SHOWN, len(examples))):
            x = examples[index]
            made = {name: own[0].cpu() for name, own in model.versions(x.unsqueeze(0).to(device)).items()}
            rows.append([(examples.name(index), x), *made.items()])
            strips.append(strip({"original": x, **made}, _spread(x.shape[1]), examples.name(index)))
        text = f"Clips of the validation split, which the model was not trained on, and {reconstructed(model)}"
        films = Films("Originals, each next to its reconstruction.", rows, model.spec.rate)
        yield Section("Reconstructions", text, [*strips[:2], films])

    def sections(self, run: RunFolder, model: Autoencoder, data: Data) -> Iterator[Section]:
        """Yield the section on imagined frames, for models with a prior."""
        assert isinstance(data, VideoData)
        clips, split = (data.validation, "validation") if len(data.validation) else (data.train, "train")
        yield from imagination_section(run, model, clips, split)


def strip(versions: Mapping[str, Tensor], frames: Sequence[int], caption: str) -> Block:
    """Return a picture with a row of frames of each clip [3, T, H, W], with its name beside it."""
    rows = torch.cat([x[:, list(frames)].transpose(0, 1) for x in versions.values()])
    return grid(rows, len(frames), list(versions), caption)


def _spread(length: int) -> list[int]:
    """Return at most `FRAMES` indices of frames, evenly spaced."""
    return torch.linspace(0, length - 1, min(FRAMES, length)).round().int().tolist()


def _page(path: Path, title: str, blocks: Sequence[Block]) -> Path:
    write_page(path, Page(title, sections=[Section("Clips", blocks=blocks)]))
    return path


MODALITY = VideoModality()
