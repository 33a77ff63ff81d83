"""Pieces of any length: the recurrent decoder goes on from a latent or a given piece, or follows several latents."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from narrows.commands.source import open_run
from narrows.decoding import require_prior
from narrows.errors import NarrowsError
from narrows.likelihoods import DiscreteLikelihood
from narrows.modalities.music.modality import MODALITY
from narrows.modalities.music.roll import THRESHOLD, RollLayout, require_threshold
from narrows.modality import Row
from narrows.models import Autoencoder
from narrows.models.drawing import draw_levels
from narrows.networks import AutoregressiveRecurrentDecoder, RecurrentDecoder
from narrows.pretrained import load
from narrows.progress import Progress, hidden
from narrows.sampling import Sampling

__all__ = ["compose", "composed"]

logger = logging.getLogger(__name__)

TIME = r"(?:(\d+):)?(\d+(?:\.\d+)?)"
"""Minutes, if given, and seconds."""


def compose(
    folder: str,
    steps: int,
    n: int = 1,
    start: Path | None = None,
    through: Sequence[str] = (),
    out: Path | None = None,
    sampling: Sampling | None = None,
    threshold: float = THRESHOLD,
    progress: Progress = hidden,
) -> Path:
    """Write pieces of any length as MIDI files with a page that plays them, and return the page's path.

    Args:
        folder: the run folder, or its id on the hub.
        steps: T, steps to generate.
        n: number of pieces, each from a latent of its own; must be 1 with `start` or `through`.
        start: a MIDI file to go on from. A decoder that reads the data continues the file itself; one that does not
            continues its reconstruction.
        through: latents of your choice, each as numbers such as `0.5 -1`, or as a MIDI file whose window they describe:
            the first one of FILE, or the one that begins at a time, FILE@SECONDS or FILE@MINUTES:SECONDS (FILE@BEATS
            for a model whose steps are parts of a beat). One leads all steps. The windows of a piece through several
            have latents on the lines from one to the next; it begins with the first and ends with the last.
        out: folder to write to; None means `pieces` in the run folder.
        sampling: how latents are drawn from the prior, and steps from a decoder that reads the data; None for the
            defaults with seed 0.
        threshold: probability above which a note sounds; not for decoders that draw.
        progress: shows the progress.

    Raises:
        NarrowsError: if the model has no recurrent decoder, or codes but no prior; if a file is shorter than a window;
            if chosen latents are not those of the model; or if an option has no effect.
        DataError: if the file cannot be read.
    """
    model, sampling = load(folder), sampling or Sampling(seed=0)
    if not isinstance(model.decoder, RecurrentDecoder | AutoregressiveRecurrentDecoder):
        raise NarrowsError(
            f"the decoder of {folder} is a {type(model.decoder).__name__}, which makes windows only: composing needs a "
            "recurrent decoder, such as that of vrae-20d"
        )
    require_threshold(threshold, model.autoregressive)
    drawn = model.autoregressive or (model.prior is not None and not (start or through))
    if sampling.temperature != 1 and not drawn:
        raise NarrowsError(f"--temperature {sampling.temperature:g}: nothing is drawn here; leave it out")
    with torch.random.fork_rng(devices=[]):
        if isinstance(sampling.seed, int):
            torch.manual_seed(sampling.seed)
        if (start or through) and n != 1:
            raise NarrowsError(f"-n {n}: from what is given there is one piece to make; leave it out")
        opening = None
        if through:
            if start is not None:
                raise NarrowsError(f"--start {start}: a piece through chosen latents has no other start; leave it out")
            latents, names = torch.cat([_chosen(model, place) for place in through], 2), [_told(through)]
        elif start is not None:
            opening = _whole_windows(MODALITY.read([start], model.spec)[0], model.hop, start)
            latents, names = model.posterior(opening).mode, [f"{start.name}, continued"]
        else:
            require_prior(folder, model, model.sampled_prior, Sampling(seed=sampling.seed), None)
            latents = model.sample_latents(n, None, sampling)[0]
            names = [f"piece {index + 1}" for index in range(n)]
        with progress("compose", steps, "steps") as meter:

            def advance(done: int, _: int) -> None:
                meter.to(done)

            if len(through) > 1:
                path = _path(latents, -(-steps // model.hop), model.hop)
                pieces = model.decode_latents(path, sampling=sampling, progress=advance)[:, :, :steps]
            else:
                pieces = composed(model, latents, steps, opening, sampling, advance)
            meter.to(steps)
    rows = [Row(name, [x]) for name, x in zip(names, pieces, strict=True)]
    out = out or open_run(folder).outputs / "pieces"
    return MODALITY.save_rows(out, f"Pieces of {folder}", rows, model.spec, threshold=threshold)


@torch.no_grad()
def composed(
    model: Autoencoder,
    latents: Tensor,
    steps: int,
    opening: Tensor | None = None,
    sampling: Sampling | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Return what a recurrent decoder makes of latents in any number of steps.

    Args:
        model: the model.
        latents: z [B, channels, N]; after their N windows, the steps go on from the last.
        steps: T, the number of steps, or of new steps after the opening.
        opening: the N windows of the latents, [B, C, N hop]; None if there is none.
        sampling: how a decoder that reads the data draws them.
        progress: called with the number of steps drawn and T.

    Returns:
        the mean of p(x|z), or draws from it by a decoder that reads the data, [B, C, T]; after the opening, as the
        decoder makes it, if there is one.
    """
    decoder, known = model.decoder, 0 if opening is None else opening.shape[2]
    if isinstance(decoder, RecurrentDecoder):
        windows = model.observe(latents).mean
        _, state = decoder.run(decoder.begin(latents[:, :, -1]), decoder.hop)
        further = known + steps - windows.shape[2]
        if further <= 0:
            return windows[:, :, : known + steps]
        return torch.cat([windows, model.likelihood(decoder.run(state, further)[0]).mean], 2)
    assert isinstance(decoder, AutoregressiveRecurrentDecoder)
    assert isinstance(model.likelihood, DiscreteLikelihood)
    past = None if opening is None else model.likelihood.to_levels(opening[:, :, -model.hop :])
    z = latents if opening is None else latents[:, :, -1:]
    levels = draw_levels(decoder, model.likelihood, z, None, steps, sampling or Sampling(), progress, past)
    made = model.likelihood.to_values(levels)
    return made if opening is None else torch.cat([opening, made], 2)


def _whole_windows(x: Tensor, hop: int, file: Path) -> Tensor:
    """Return the whole windows of a piece [C, T], [1, C, N hop]; the rest at its end is left out."""
    count, rest = divmod(x.shape[1], hop)
    if not count:
        raise NarrowsError(f"{file} has {x.shape[1]} steps, less than a window of {hop}: give a longer one")
    if rest:
        logger.warning("%s: the last %d steps, less than a window of %d, are left out", file, rest, hop)
    return x[:, : count * hop].unsqueeze(0)


def _path(latents: Tensor, windows: int, hop: int) -> Tensor:
    """Return N = `windows` latents on the lines between K latents [1, channels, K], which are among them."""
    count = latents.shape[2]
    if windows < count:
        raise NarrowsError(
            f"{count} latents need as many windows of {hop} steps: make at least {(count - 1) * hop + 1} steps"
        )
    places = np.rint(np.linspace(0, windows - 1, count))
    path = [np.interp(np.arange(windows), places, channel) for channel in latents[0].cpu().numpy()]
    return torch.from_numpy(np.stack(path)).to(latents)[None]


def _numbers(place: str) -> list[float] | None:
    """Return the numbers in a text, or None if it is not made of numbers."""
    try:
        return [float(part) for part in re.split(r"[\s,]+", place.strip())]
    except ValueError:
        return None


def _told(through: Sequence[str]) -> str:
    """Return chosen latents in words; of a file, its name without the folder."""
    return " to ".join(Path(place).name if _numbers(place) is None else place.strip() for place in through)


@torch.no_grad()
def _chosen(model: Autoencoder, place: str) -> Tensor:
    """Return the latents [1, channels, 1] that numbers, or a file and a time in it, stand for."""
    channels, numbers = model.bottleneck.channels, _numbers(place)
    if numbers is not None:
        if model.discrete or len(numbers) != channels:
            latents = "codes: name files instead" if model.discrete else f"{channels} dimensions, not {len(numbers)}"
            raise NarrowsError(f"--through {place!r}: the latents of this model have {latents}")
        return torch.tensor(numbers).view(1, -1, 1)
    file, found, time = place.rpartition("@")
    timed = re.fullmatch(TIME, time) if found and not Path(place).exists() else None
    path = Path(file if timed else place)
    x = MODALITY.read([path], model.spec)[0]
    clock = RollLayout.of(model.spec.details).clock(model.spec.rate)
    first = round((60 * int(timed[1] or 0) + float(timed[2])) * (clock.per_beat or clock.rate)) if timed else 0
    window = x[:, first : first + model.hop]
    if window.shape[1] < model.hop:
        raise NarrowsError(
            f"--through {place}: {path} has {x.shape[1]} steps, and a window of {model.hop} does not begin at {first}"
        )
    return model.posterior(window.unsqueeze(0)).mode
