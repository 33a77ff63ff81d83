"""Motions that go on: the prior draws the codes that follow those of a file, and the decoder turns them into motion."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from narrows.commands.source import open_run
from narrows.decoding import class_index, require_prior
from narrows.errors import NarrowsError
from narrows.modalities.motion.modality import MODALITY, require_motion
from narrows.modalities.motion.results import remove_earlier, write_motion_page
from narrows.modalities.motion.shown import check_film, shown, write_film
from narrows.models import Autoencoder
from narrows.pretrained import load
from narrows.priors import Prior, continue_codes
from narrows.progress import Progress, hidden
from narrows.sampling import Sampling

__all__ = ["continue_motion"]

LEAD = 5
"""Seconds of the given motion that the page shows before the continuation."""


def continue_motion(
    folder: str,
    file: Path,
    frames: int,
    n: int = 1,
    out: Path | None = None,
    sampling: Sampling | None = None,
    label: str | None = None,
    film: str | None = None,
    progress: Progress = hidden,
) -> Path:
    """Write a motion followed by its continuation, n times, with a page that plays them, and return the page's path.

    The end of the motion is encoded, as many codes as the prior models at once, and the prior draws the codes that
    follow. The frames of the file remain as they are, without a bind pose at its start. The new ones go on from where
    its root is, because the features of the root are speeds; the pose may jump by the error of a reconstruction. Like
    all motions written, these start at the origin.

    Args:
        folder: the run folder, or its id on the hub.
        file: the motion to continue.
        frames: number of new frames.
        n: number of continuations.
        out: folder to write to; None means `continued` in the run folder.
        sampling: how codes are drawn; None for the defaults with seed 0.
        label: name or number of the class to continue as; optional if the model has at most one.
        film: gif or mp4, to also write a film of each, with the last seconds of the motion; None for none.
        progress: shows the progress.

    Raises:
        NarrowsError: if the model is not one of motion with codes and a prior over more than one of them, the class is
            missing or unknown, `frames` or `n` is below 1, or the file is shorter than a code.
        DataError: if the file cannot be read.
    """
    for option, value in (("--frames", frames), ("-n", n)):
        if value < 1:
            raise NarrowsError(f"{option} is {value}: it must be at least 1")
    model, sampling = load(folder), sampling or Sampling(seed=0)
    prior = _prior(folder, model, sampling, label)
    check_film(model.spec, film)
    condition = _condition(model, label)
    (x,) = MODALITY.read([file], model.spec)
    given = min(x.shape[1] // model.hop, prior.grid[0])
    if not given:
        raise NarrowsError(
            f"{file} has {x.shape[1]} frames, less than the {model.hop} of a code: continue a longer motion"
        )
    codes = model.encode(x[:, -given * model.hop :].unsqueeze(0))
    count = -(-frames // model.hop)
    labels = None if condition is None else condition.expand(n)
    with progress("continue", count, "codes") as meter:
        whole = continue_codes(prior, codes.repeat_interleave(n, 0), count, labels, sampling, meter.to)
    made = model.decode(whole, labels)[:, :, given * model.hop :][:, :, :frames]
    out = out or open_run(folder).outputs / "continued"
    motions = {f"{file.stem}, continuation {index}": torch.cat([x, new], 1) for index, new in enumerate(made, 1)}
    rate = model.spec.rate
    assert rate is not None
    first = max(0, x.shape[1] - round(LEAD * rate))
    ends = {name: motion[:, first:] for name, motion in motions.items()}
    remove_earlier(out, MODALITY.suffix_of(model.spec))
    for index, (name, motion) in enumerate(motions.items()):
        MODALITY.write(out / f"{index:03}{MODALITY.suffix_of(model.spec)}", motion, model.spec)
        if film:
            write_film(out / f"{index:03}.{film}", {name: ends[name]}, model.spec)
    seconds = (x.shape[1] - first) / rate
    caption = f"The first {seconds:.3g} seconds of each are the end of {file.name}; the rest is new."
    block = shown([{name: end} for name, end in ends.items()], model.spec, caption)
    return write_motion_page(out, f"{file.name}, continued", block)


def _prior(folder: str, model: Autoencoder, sampling: Sampling, label: str | None) -> Prior:
    """Return the prior over the codes of a model of motion.

    Raises:
        NarrowsError: if there is none, or `label` has no effect.
    """
    require_motion(folder, model, "`narrows continue` continues motions")
    if not model.discrete:
        raise NarrowsError(
            f"the latents of {folder} are continuous, and no prior draws those that follow others: use a model with "
            "codes, such as vqvae-motion, or `narrows interpolate` between two motions"
        )
    prior = model.sampled_prior
    require_prior(folder, model, prior, sampling, label)
    assert prior is not None
    return prior


def _condition(model: Autoencoder, label: str | None) -> Tensor | None:
    """Return the class to continue as, int64 [1]; None if the model has no classes."""
    if not model.classes:
        return None
    if label is None and len(model.classes) > 1:
        raise NarrowsError(
            f"choose a class to continue as, with --class NAME; the classes are: {', '.join(model.classes)}"
        )
    return torch.tensor([0 if label is None else class_index(model, label)])
