"""Draw new images, and walk between two."""

from __future__ import annotations

from pathlib import Path

import torch

from narrows.commands.source import open_run
from narrows.errors import NarrowsError
from narrows.modalities.images.files import image_grid, read_images, save_image, to_unit
from narrows.models import Autoencoder, SoundAutoencoder
from narrows.pretrained import load
from narrows.priors import Prior
from narrows.progress import progress

__all__ = ["class_index", "interpolate", "refuse_steering", "sample_images"]

COLUMNS = 10


def sample_images(
    folder: str,
    model: Autoencoder,
    n: int,
    label: str | None,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    seed: int,
    full: bool,
    scale: int,
    out: Path,
) -> None:
    """Write a grid of n samples of the run's prior to the PNG `out`; without a label the classes take turns.

    They are the means of p(x|z), or with `full` draws from it.
    """
    if model.lacks_prior:
        raise NarrowsError(
            f"{folder} has no prior to draw codes from: fit one with `narrows prior {folder}`; of two stages the first "
            "needs it before the second is trained"
        )
    prior = model.sampled_prior
    refuse_steering(folder, prior, temperature, top_k, top_p, label)
    torch.manual_seed(seed)
    labels = None
    if model.classes:
        chosen = range(len(model.classes)) if label is None else [class_index(model, label)]
        labels = torch.tensor([chosen[i % len(chosen)] for i in range(n)])
    elif label is not None:
        raise NarrowsError(f"--class {label}: {folder} was trained on data without labels")
    with progress("sample", prior.length if prior else 1, "codes") as meter:
        observation = model.generate(n, labels, temperature, top_k, top_p, progress=lambda done, _: meter.to(done))
    images = observation.sample() if full else observation.mean
    save_image(out, image_grid(images, columns=min(n, COLUMNS), scale=scale))


def refuse_steering(
    folder: str,
    prior: Prior | None,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    label: str | None = None,
) -> None:
    """Refuse what steers a learned prior where there is none.

    Raises:
        NarrowsError: if anything is asked for that has no effect.
    """
    asked = {"--class": label, "--temperature": temperature - 1, "--top-k": top_k, "--top-p": top_p}
    if prior is None and (useless := [option for option, value in asked.items() if value]):
        raise NarrowsError(
            f"{useless[0]} steers a learned prior over codes, and the latents of {folder} are continuous"
        )


def class_index(model: Autoencoder, label: str) -> int:
    """The index of a class given by name or number.

    Raises:
        NarrowsError: if there is no such class; the message lists those there are.
    """
    if label in model.classes:
        return model.classes.index(label)
    if label.isdigit() and int(label) < len(model.classes):
        return int(label)
    names = ", ".join(f"{index} {name}" if name != str(index) else name for index, name in enumerate(model.classes))
    raise NarrowsError(f"no class {label!r}; the classes are: {names}")


def interpolate(folder: str, start: Path, end: Path, steps: int, scale: int, out: Path | None) -> Path:
    """Write the row of `steps` images from `start` to `end` through the latent space to a PNG, and return its path."""
    if steps < 2:
        raise NarrowsError(f"--steps is {steps}: it must be at least 2")
    model = load(folder)
    if isinstance(model, SoundAutoencoder):
        raise NarrowsError(f"{folder} is a model of sound: `narrows interpolate` walks between images")
    ends = to_unit(read_images([start, end], model.shape))
    out = out or open_run(folder).outputs / "interpolation.png"
    save_image(out, image_grid(model.interpolate(ends[:1], ends[1:], steps)[0], columns=steps, scale=scale))
    return out
