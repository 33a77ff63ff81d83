"""The image modality: how images are opened, read, written and shown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from narrows.config import TrainingRecipe
from narrows.data import Data, Examples, Spec
from narrows.data.pixels import save_picture, tiled, to_unit
from narrows.evaluation.pixels import pixel_errors
from narrows.modalities.images.distances import distances
from narrows.modalities.images.files import read_images
from narrows.modalities.images.folders import EXTENSIONS
from narrows.modalities.images.images import ImageData, Images, open_images
from narrows.modalities.images.settings import ImageSettings
from narrows.modality import Modality, Row
from narrows.models import Autoencoder
from narrows.progress import Progress
from narrows.report.page import Block
from narrows.report.pictures import grid, versions_grid

__all__ = ["MODALITY", "ImageModality", "ImageRecipe"]

COLUMNS, PAIRS = 10, 8
"""Images per row of a file: samples, and originals above their reconstructions."""


@dataclass
class ImageRecipe(TrainingRecipe):
    """Recipe of `narrows train` for images.

    Args:
        model: the model.
        estimator: the loss and how its gradient is estimated.
        data: the data to train on.
        training: the settings of training.
        on: for a model upon another, the run folder of the first stage or its id on the hub; None for others.
        modality: the kind of data.
    """

    data: ImageSettings = field(default_factory=ImageSettings)
    modality: Literal["images"] = "images"


class ImageModality(Modality):
    """Images [C, H, W] in [0, 1], C = 1 (grey) or 3 (RGB)."""

    name = "images"
    unit = "images"
    dimension = "pixels"
    suffix = ".png"
    extensions = EXTENSIONS
    recipe = ImageRecipe
    default_prior = "pixelcnn"
    samples = 64
    has_figures = True
    has_distances = True
    units: ClassVar[Mapping[str, str]] = {
        "mse": "mean over pixels in [0, 1]",
        "psnr": "dB",
        "ssim": "of 1",
        "frechet_samples": "",
        "frechet_reconstructions": "",
    }
    shared_overrides = ("--data.memory_limit_gb=0",)
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "sample": ("scale",),
        "reconstruct": ("scale",),
        "interpolate": ("scale",),
    }

    def open(
        self, settings: ImageSettings, progress: Progress, quiet: bool = False, spec: Spec | None = None
    ) -> ImageData:
        """Find, split and decode images; given `spec`, scale and crop them to the size of its model."""
        return open_images(settings, quiet, None if spec is None else spec.shape, progress)

    def fitted(self, spec: Spec) -> str:
        """Return the size and colour of the model's images."""
        size, colour = "x".join(map(str, spec.shape[1:])), "grey" if spec.shape[0] == 1 else "RGB"
        return f"images are scaled and cropped to the model's {size} pixels of {colour}"

    def read(self, files: Sequence[Path], spec: Spec) -> list[Tensor]:
        """Return images [C, H, W] in [0, 1], scaled and cropped as in training."""
        return list(to_unit(read_images(files, spec.shape)))

    def write(self, path: Path, x: Tensor, spec: Spec) -> None:
        """Write a PNG file."""
        save_picture(path, x)

    def save_rows(self, out: Path, title: str, rows: Sequence[Row], spec: Spec, scale: int = 1, **options: Any) -> Path:
        """Write a PNG file of all images, row by row, and return its path."""
        images = torch.stack([x for row in rows for x in row.examples])
        longest = max(len(row.examples) for row in rows)
        columns = longest if len(rows) == 1 or longest > 1 else min(len(rows), COLUMNS)
        return _save(out, tiled(images, columns, scale=scale))

    def save_versions(
        self,
        out: Path,
        title: str,
        names: Sequence[str],
        versions: Mapping[str, Sequence[Tensor]],
        spec: Spec,
        scale: int = 1,
        **options: Any,
    ) -> Path:
        """Write a PNG file of images above their reconstructions, and return its path."""
        rows: list[Tensor] = []
        for start in range(0, len(names), PAIRS):
            for images in versions.values():
                part = torch.stack(list(images[start : start + PAIRS]))
                rows += [part, torch.ones(PAIRS - len(part), *spec.shape)]
        return _save(out, tiled(torch.cat(rows), PAIRS, scale=scale))

    def show_rows(self, rows: Sequence[Row], spec: Spec, caption: str) -> Block:
        """Return a picture of the rows of images, with their names beside them."""
        names = [row.name for row in rows] if any(row.name for row in rows) else []
        images = torch.stack([x for row in rows for x in row.examples])
        return grid(images, max(len(row.examples) for row in rows), names, caption)

    def show_versions(self, versions: Mapping[str, Sequence[Tensor]], spec: Spec, caption: str) -> Block:
        """Return a picture with the versions of each image one above the other."""
        return versions_grid({name: torch.stack(list(images)) for name, images in versions.items()}, caption)

    def figures(self, x: Tensor, reconstruction: Tensor, spec: Spec) -> dict[str, Tensor]:
        """Return `mse` of pixels in [0, 1], `psnr` (dB) and, for images of at least 11x11 pixels, `ssim`; [B] each."""
        return pixel_errors(x, reconstruction)

    def describe(self, data: Data, spec: Spec) -> str:
        """Return the number of training images, their size and their number of channels."""
        count = f"{len(data.train)} " if isinstance(data.train, Images) else "streamed "
        size, channels = "×".join(map(str, spec.shape[1:])), spec.shape[0]
        return f"{count}training images of {size} pixels, {channels} channel{'s' * (channels > 1)}"

    def facts(self, model: Autoencoder, figures: Mapping[str, float]) -> dict[str, str]:
        """Return the PSNR of reconstructions and, for discrete models, the bits of an image's codes."""
        facts = {"reconstruction": f"{figures['psnr']:.1f} dB PSNR"}
        if model.discrete:
            bits = math.prod(model.codes.grid) * model.codes.codebooks * math.log2(model.codes.codebook_size)
            share = f", 1/{8 * model.dimensions / bits:.0f} of the bits of its pixels" if bits else ""
            facts["an image"] = f"{bits:.0f} bits{share}"
        return facts

    def distances(
        self, data: Data, real: Examples, made: Mapping[float, Mapping[str, Sequence[Tensor]]], progress: Progress
    ) -> tuple[dict[float, dict[str, float]], str]:
        """Return Fréchet distances in the features of a classifier of the data, if one can be trained."""
        return distances(data, real, made, progress)


def _save(out: Path, pixels: Any) -> Path:
    path = out if out.suffix else out.with_suffix(".png")
    save_picture(path, pixels)
    return path


MODALITY = ImageModality()
