"""The latents of the windows of songs, and how well they tell the songs apart."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from narrows.modalities.music.rolls import Rolls
from narrows.models import Autoencoder

__all__ = ["WindowLatents", "song_accuracy", "window_latents"]


class WindowLatents(NamedTuple):
    """The whole windows of some stretches, in order."""

    z: np.ndarray
    """Mean latents, or those of the codes, float32 [M, channels]."""
    stretch: np.ndarray
    """The stretch of each window, int64 [M]."""
    start: np.ndarray
    """The first step of each window in its stretch, int64 [M]."""
    song: np.ndarray
    """The song of each window, int64 [M]."""


@torch.no_grad()
def window_latents(model: Autoencoder, rolls: Rolls) -> WindowLatents:
    """Return the latents of the windows that `rolls` consist of, without overlap; incomplete windows are left out."""
    device, hop = next(model.parameters()).device, model.hop
    latents, stretches, starts = [np.zeros((0, model.bottleneck.channels), np.float32)], [], []
    for index, length in enumerate(rolls.lengths.tolist()):
        count = length // hop
        if count:
            mode = model.posterior(rolls[index].to(device)[None, :, : count * hop]).mode[0]
            latents.append(mode.float().cpu().T.numpy())
            stretches += [index] * count
            starts += [hop * place for place in range(count)]
    stretch = np.array(stretches, np.int64)
    return WindowLatents(np.concatenate(latents), stretch, np.array(starts, np.int64), rolls.labels[stretch])


def song_accuracy(known: WindowLatents, asked: WindowLatents) -> dict[str, float]:
    """Return how often the window of `known` with the nearest latents is of the same song as a window of `asked`.

    `song_accuracy_by_chance` is the accuracy of a window of `known` drawn at random. Windows of songs that `known` has
    not got are left out; without any window there are no figures.
    """
    from scipy.spatial import KDTree

    counted = np.isin(asked.song, known.song)
    if not counted.any():
        return {}
    songs = asked.song[counted]
    _, nearest = KDTree(known.z).query(asked.z[counted])
    share = np.bincount(known.song, minlength=songs.max() + 1) / len(known.song)
    return {
        "song_accuracy": float((known.song[nearest] == songs).mean()),
        "song_accuracy_by_chance": float(share[songs].mean()),
    }
