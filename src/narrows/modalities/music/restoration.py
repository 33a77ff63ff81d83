"""How well a model gives back notes that were removed from music at random."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from narrows.data.loader import uniforms
from narrows.modalities.music.damage import without_notes
from narrows.modalities.music.roll import to_levels
from narrows.modalities.music.rolls import Rolls
from narrows.models import Autoencoder
from narrows.sampling import Sampling

__all__ = ["restoration"]

SEED = 0
"""The seed of the notes that are removed, and of decoders that draw."""


@torch.no_grad()
def restoration(model: Autoencoder, rolls: Rolls, share: float) -> dict[str, float]:
    """Return how well a model gives back the notes that were removed at random from music.

    Each value is one pitch at one step. `restored_recall` is the share of the removed values that the reconstruction
    has; `restored_precision` the share of the values it adds that were removed; `restored_f1` the F1 of the damaged
    music with the added values, beside `damaged_f1`, that of the damaged music as it is.

    Args:
        model: the model; it reads the damaged music.
        rolls: the music.
        share: the probability with which each note is removed.
    """
    layout, device = rolls.layout, next(model.parameters()).device
    original = damaged = removed = added = right = 0
    for index in range(len(rolls)):
        roll = rolls.stored(index)
        left = without_notes(roll, layout, share, partial(uniforms, seed=SEED, step=0, example=index))
        x = torch.from_numpy(left.T.astype(np.float32) / layout.scale).to(device)
        made = to_levels(model.reconstruct(x.unsqueeze(0), sampling=Sampling(seed=SEED))[0], layout)
        was, has, new = (part[:, : layout.pitches] > 0 for part in (roll, left, made))
        original, damaged = original + was.sum(), damaged + has.sum()
        removed, added = removed + (was & ~has).sum(), added + (new & ~has).sum()
        right += (was & ~has & new).sum()
    return {
        "restored_recall": float(right / max(1, removed)),
        "restored_precision": float(right / max(1, added)),
        "restored_f1": float(2 * (damaged + right) / max(1, original + damaged + added)),
        "damaged_f1": float(2 * damaged / max(1, original + damaged)),
    }
