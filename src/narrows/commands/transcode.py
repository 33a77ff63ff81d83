"""Images to codes, codes to images, and both at once to look at."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from narrows.atomic import whole_file
from narrows.commands.source import open_run_data
from narrows.data import image_grid, read_images, save_image, to_unit
from narrows.errors import NarrowsError
from narrows.pretrained import fingerprint, load
from narrows.training.run import RunFolder

__all__ = ["decode", "encode", "reconstruct"]

BATCH = 64


def encode(folder: str, files: Sequence[Path], out: Path) -> np.ndarray:
    """Write the `codes` [N, *grid] of image files (a VAE's latents), `names` and the `model` to `out`, an .npz."""
    if out.suffix != ".npz":
        raise NarrowsError(f"--out {out}: codes are written as .npz")
    model = load(folder)
    parts = [model.encode(to_unit(read_images(files[i : i + BATCH], model.shape))) for i in range(0, len(files), BATCH)]
    codes = torch.cat(parts).numpy()
    with whole_file(out) as aside, aside.open("wb") as file:
        np.savez_compressed(
            file, codes=_narrowed(codes), names=np.array([file.name for file in files]), model=fingerprint(folder)
        )
    return codes


def decode(folder: str, codes: Path, out: Path) -> list[Path]:
    """Write the images of a file of codes into the folder `out`, each a PNG named as the image it came from.

    Raises:
        NarrowsError: if the file is damaged, or holds another model's codes.
    """
    model = load(folder)
    try:
        with np.load(codes) as content:
            values, names, owner = content["codes"], content["names"].tolist(), str(content["model"])
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise NarrowsError(
            f"{codes} is not a file of codes that `narrows encode` wrote, or it is damaged: {error}"
        ) from error
    if owner != fingerprint(folder):
        raise NarrowsError(
            f"{codes} holds codes of another model than {folder}: decode it with the model that encoded it"
        )
    tensor = torch.from_numpy(values)
    tensor = tensor if tensor.is_floating_point() else tensor.long()
    written = []
    for start in range(0, len(tensor), BATCH):
        for name, image in zip(names[start : start + BATCH], model.decode(tensor[start : start + BATCH]), strict=True):
            written.append(out / f"{Path(name).stem}.png")
            save_image(written[-1], image)
    return written


def reconstruct(folder: str, files: Sequence[Path], scale: int, out: Path) -> None:
    """Write a PNG of images above their reconstructions; without files, of the first images of the run's test split."""
    model = load(folder)
    levels = read_images(files, model.shape) if files else _test_images(folder, 16)
    originals = to_unit(levels)
    rows: list[Tensor] = []
    for start in range(0, len(originals), 8):
        part = originals[start : start + 8]
        padding = torch.ones(8 - len(part), *model.shape)
        rows += [part, padding, model.reconstruct(part), padding]
    save_image(out, image_grid(torch.cat(rows), columns=8, scale=scale))


def _test_images(folder: str, n: int) -> Tensor:
    return torch.from_numpy(open_run_data(RunFolder(folder)).test.pixels[:n].copy())


def _narrowed(codes: np.ndarray) -> np.ndarray:
    """Integer codes in the smallest type that holds them."""
    return codes if codes.dtype.kind == "f" else codes.astype(np.min_scalar_type(int(codes.max())))
