"""Images to codes, codes to images, and both at once to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from narrows.commands.codes import CodesOfFiles, distinct_stems, read_codes, require_npz, write_codes
from narrows.commands.source import open_run, open_run_data, what_changed
from narrows.errors import NarrowsError
from narrows.modalities.images.files import image_grid, read_images, save_image, to_unit
from narrows.modalities.images.images import ImageData
from narrows.models import Autoencoder

__all__ = ["decode_images", "encode_images", "reconstruct_images"]

BATCH = 64


def encode_images(folder: str, model: Autoencoder, files: Sequence[Path], out: Path) -> np.ndarray:
    """Write the codes of image files (a VAE's latents) to `out`; see `narrows.commands.codes` for the layout."""
    require_npz(out)
    parts = [model.encode(to_unit(read_images(files[i : i + BATCH], model.shape))) for i in range(0, len(files), BATCH)]
    codes = [code.numpy() for part in parts for code in part]
    return write_codes(out, folder, CodesOfFiles(codes, [model.shape[1:]] * len(files), [str(file) for file in files]))


def decode_images(folder: str, model: Autoencoder, file: Path, out: Path) -> list[Path]:
    """Write the images of a file of codes into the folder `out`, each a PNG named as the image it came from."""
    codes, _, names = read_codes(file, folder)
    written = [out / f"{stem}.png" for stem in distinct_stems(names)]
    for start in range(0, len(codes), BATCH):
        images = model.decode(torch.from_numpy(np.stack(codes[start : start + BATCH])))
        for path, image in zip(written[start : start + BATCH], images, strict=True):
            save_image(path, image)
    return written


def reconstruct_images(folder: str, model: Autoencoder, files: Sequence[Path], scale: int, out: Path) -> None:
    """Write a PNG of images above their reconstructions; without files, of the first images of the run's test split."""
    levels = read_images(files, model.shape) if files else _test_images(folder, model, 16)
    originals = to_unit(levels)
    rows: list[Tensor] = []
    for start in range(0, len(originals), 8):
        part = originals[start : start + 8]
        padding = torch.ones(8 - len(part), *model.shape)
        rows += [part, padding, model.reconstruct(part), padding]
    save_image(out, image_grid(torch.cat(rows), columns=8, scale=scale))


def _test_images(folder: str, model: Autoencoder, n: int) -> Tensor:
    run = open_run(folder)
    data = open_run_data(run, model)
    what_changed(run, data)
    if not isinstance(data, ImageData):
        raise NarrowsError(f"the data of {folder} are not images any more")
    if not len(data.test):
        raise NarrowsError(f"the test split of {folder} is empty: name image files")
    return torch.from_numpy(data.test.subset(n).pixels)
