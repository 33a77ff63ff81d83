"""Options of decoding: the class to decode as, and how an autoregressive decoder draws."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from narrows.errors import NarrowsError
from narrows.models import Autoencoder
from narrows.priors import Prior
from narrows.progress import Progress, drawing
from narrows.sampling import Sampling

__all__ = ["Decoding", "class_index", "conditions", "decode_drawn", "decoding_of", "require_prior"]


@dataclass(frozen=True)
class Decoding:
    """Options of decoding.

    Args:
        label: name or number of the class to decode as, for class-conditional decoders; None for each example's own.
        sampling: how an autoregressive decoder draws; None for the defaults with seed 0. Must be None for others.
    """

    label: str | None = None
    sampling: Sampling | None = None


def decoding_of(options: argparse.Namespace) -> Decoding:
    """Return the options of `narrows.arguments.add_decoding` and `--class` as an object.

    Raises:
        NarrowsError: if an option is out of range.
    """
    asked = (
        options.decoder_temperature,
        options.decoder_top_k,
        options.decoder_top_p,
        options.decoder_seed,
    )
    label = getattr(options, "label", None)
    if all(value is None for value in asked):
        return Decoding(label)
    temperature, top_k, top_p, seed = asked
    return Decoding(label, Sampling(1.0 if temperature is None else temperature, top_k, top_p, seed or 0))


def sampling_of(model: Autoencoder, decoding: Decoding) -> Sampling:
    """Return how the decoder of a model draws.

    Raises:
        NarrowsError: if the decoder is deterministic, but options for drawing are set.
    """
    if decoding.sampling is not None and not model.autoregressive:
        raise NarrowsError(
            f"this model's decoder, a {type(model.decoder).__name__}, is deterministic: the --decoder options have no "
            "effect; leave them out"
        )
    return decoding.sampling or Sampling(seed=0)


def decode_drawn(
    model: Autoencoder,
    codes: Sequence[Tensor],
    condition: Tensor | None,
    decoding: Decoding | None,
    progress: Progress,
) -> list[Tensor]:
    """Return the data [C, *size] of each of the codes, with a progress bar if they are drawn position by position.

    Args:
        model: the model.
        codes: as for `Autoencoder.decode_all`.
        condition: the class of each example, int64 [N]; None if the decoder does not use classes.
        decoding: how an autoregressive decoder draws; None for the defaults.
        progress: shows the progress.

    Raises:
        NarrowsError: if the decoder is deterministic, but options for drawing are set.
    """
    sampling = sampling_of(model, decoding or Decoding())
    if not model.autoregressive:
        return model.decode_all(codes, condition)
    longest = max(part.shape[0 if model.discrete else 1] for part in codes) * model.hop
    with drawing(progress, "decode", len(codes), longest, model.spec.rate) as advance:
        return model.decode_all(codes, condition, sampling, advance)


def conditions(model: Autoencoder, label: str | None, count: int) -> Tensor | None:
    """Return the classes to decode `count` examples as, [count]; None if the decoder does not use classes.

    Raises:
        NarrowsError: if the named class is unknown or has no effect, or none is named although there are several.
    """
    if not model.conditional:
        if label is not None:
            raise NarrowsError(f"--class {label}: this model's decoder does not use classes; leave it out")
        return None
    if label is None and len(model.classes) > 1:
        raise NarrowsError(f"choose a class to decode as, with --class NAME; the classes are: {_listed(model)}")
    return torch.full((count,), 0 if label is None else class_index(model, label))


def class_index(model: Autoencoder, label: str) -> int:
    """Return the index of a class given by name or number.

    Raises:
        NarrowsError: if there is no such class; the message lists the classes.
    """
    if label in model.classes:
        return model.classes.index(label)
    if label.isdigit() and int(label) < len(model.classes):
        return int(label)
    raise NarrowsError(f"no class {label!r}; the classes are: {_listed(model)}")


def require_prior(folder: str, model: Autoencoder, prior: Prior | None, sampling: Sampling, label: str | None) -> None:
    """Check that samples can be drawn, and that options for a learned prior are set only if there is one.

    Raises:
        NarrowsError: if the model has codes but no prior, or an option has no effect.
    """
    if model.lacks_prior:
        raise NarrowsError(
            f"{folder} has no prior to draw codes from: fit one with `narrows prior {folder}`; for a two-stage model, "
            "fit it to the first stage before training the second"
        )
    asked = {"--temperature": sampling.temperature - 1, "--top-k": sampling.top_k, "--top-p": sampling.top_p}
    if not model.conditional:
        asked["--class"] = label  # type: ignore[assignment]
    if prior is None and (useless := [option for option, value in asked.items() if value]):
        why = "no prior was fitted to them" if model.discrete else "they are continuous"
        raise NarrowsError(
            f"{useless[0]} applies to a learned prior of the latents of {folder}, but {why}; leave it out"
        )
    if label is not None and not model.classes:
        raise NarrowsError(f"--class {label}: {folder} was trained on data without classes")


def _listed(model: Autoencoder) -> str:
    return ", ".join(f"{index} {name}" if name != str(index) else name for index, name in enumerate(model.classes))
