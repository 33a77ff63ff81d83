"""Clips mirrored left to right, with the actions of the mirrored world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from narrows.data.errors import DataError
from narrows.modalities.video.actions import Actions
from narrows.modalities.video.clips import VideoClips

__all__ = ["swapped_features", "with_mirrored"]


def with_mirrored(clips: VideoClips, permutation: np.ndarray) -> VideoClips:
    """Return clips, and after them the same clips mirrored left to right.

    Args:
        clips: the clips.
        permutation: feature c of the actions of mirrored clips is feature `permutation[c]` of the clips, int64 [C].
    """
    mirrored = replace(
        clips,
        values=clips.values[:, :, ::-1],
        features=clips.features[:, permutation],
        names=[f"{name}, mirrored" for name in clips.names],
        sources=clips.sources + clips.sources.max(initial=0) + 1,
    )
    return VideoClips.joined([clips, mirrored])


def swapped_features(actions: Actions, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """Return the permutation of features that swaps pairs of actions, int64 [C].

    Args:
        actions: the actions of the data.
        pairs: names of actions.

    Raises:
        DataError: if a name is unknown, or the actions are vectors.
    """
    if actions.size:
        raise DataError(f"data.mirror=true: the data have {actions.about}, which cannot be mirrored: leave it out")
    permutation = np.arange(actions.channels)
    for pair in pairs:
        if unknown := [name for name in pair if name not in actions.names]:
            raise DataError(
                f"data.mirror_actions: {unknown[0]!r} is no action; the data have {actions.about or 'none'}"
            )
        one, other = map(actions.names.index, pair)
        permutation[[one, other]] = other, one
    return permutation
