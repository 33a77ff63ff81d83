"""Check that a model upon another is given data as the first model reads them."""

from __future__ import annotations

import json

from narrows.data import Spec
from narrows.errors import NarrowsError
from narrows.models.autoencoder import Autoencoder

__all__ = ["require_same_data"]

SHOWN = 60
"""Characters shown of a property that differs."""


def require_same_data(first: Autoencoder, spec: Spec) -> None:
    """Check that a first model reads data of this specification.

    Raises:
        NarrowsError: if it reads others.
    """
    known = first.spec
    # The first axis of data of variable length may differ.
    before, now = (shape[:1] + shape[2 if known.variable else 1 :] for shape in (known.shape, spec.shape))
    if known.modality != spec.modality or known.variable != spec.variable:
        raise NarrowsError(
            f"the first stage models {known.modality or 'tensors'}, these data are {spec.modality or 'tensors'}: both "
            "stages see the same data"
        )
    if before != now:
        raise NarrowsError(
            f"the first stage models examples of {_times(known.shape)} (channels first), these are "
            f"{_times(spec.shape)}: both stages see the same data; set data.size and the like as for the first stage"
        )
    if known.variable and spec.shape[1] % first.hop:
        raise NarrowsError(
            f"data.window is {spec.shape[1]}, which is not a multiple of {first.hop}, the first stage's positions per "
            f"code: set it to {(spec.shape[1] // first.hop + 1) * first.hop}"
        )
    for name in ("bounds", "rate", "details"):
        own, given = (json.dumps(getattr(part, name), sort_keys=True) for part in (known, spec))
        if own != given:
            raise NarrowsError(
                f"the first stage models data whose {name} are {_short(own)}, those of these data are "
                f"{_short(given)}: train on the data of the first stage, with the same data settings"
            )
    if first.conditional and known.classes != spec.classes:
        different = sorted(set(known.classes) ^ set(spec.classes))
        raise NarrowsError(
            f"the first stage decodes by class, and its classes are not those of these data (only one has "
            f"{', '.join(different)}): train on the data of the first stage"
        )


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
