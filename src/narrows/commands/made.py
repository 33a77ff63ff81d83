"""Reconstructions of held-out examples and as many samples, whose distances from the examples are measured."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from narrows.data import Examples
from narrows.decoding import decode_drawn
from narrows.errors import NarrowsError
from narrows.modality import Modality
from narrows.models import Autoencoder
from narrows.progress import Progress

__all__ = ["AT_MOST", "made_from", "require_distances"]

AT_MOST, SAMPLED_AT_ONCE = 2000, 100
"""The most examples whose distance is measured, and samples drawn together."""


def require_distances(modality: Modality) -> None:
    """Raise a `NarrowsError` if a kind of data has no distances."""
    if not modality.has_distances:
        raise NarrowsError(f"--distances: models of {modality.name} have none; leave it out")


@torch.no_grad()
def made_from(model: Autoencoder, examples: Examples, progress: Progress) -> dict[str, list[Tensor]]:
    """Return reconstructions of examples and, if the model has a prior, samples of the same number of positions.

    These are as many samples as examples, unless the examples are of any length.
    """
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        originals = [examples[index].to(device) for index in range(len(examples))]
        labels = examples.numbered(model.classes).labels
        condition = torch.from_numpy(labels).to(device) if model.conditional and labels is not None else None
        decoded = decode_drawn(model, model.encode_all(originals), condition, None, progress)
        made = {"reconstructions": [y[:, : x.shape[1]] for x, y in zip(originals, decoded, strict=True)]}
        if not model.lacks_prior:
            total = sum(x.shape[1] for x in originals) / model.sampled_length if model.variable else len(examples)
            counts = torch.arange(math.ceil(total)).split(SAMPLED_AT_ONCE)
            made["samples"] = [x for part in counts for x in model.sample(len(part))]
    return {name: [x.cpu() for x in own] for name, own in made.items()}
