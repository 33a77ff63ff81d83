"""Clips mirrored left to right, with the actions of the mirrored world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from narrows.data.errors import DataError
from narrows.modalities.video.actions import Actions
from narrows.modalities.video.clips import VideoClips

__all__ = ["mirrored_actions", "with_mirrored"]


def with_mirrored(clips: VideoClips, order: np.ndarray) -> VideoClips:
    """Return clips, and after them the same mirrored left to right.

    Args:
        clips: the clips.
        order: the feature of the clips' actions that each feature of mirrored clips is, int64 [C].
    """
    mirrored = replace(
        clips,
        values=clips.values[:, :, ::-1],
        features=clips.features[:, order],
        names=[f"{name} mirrored" for name in clips.names],
        sources=clips.sources + clips.sources.max(initial=0) + 1,
    )
    return VideoClips.joined([clips, mirrored])


def mirrored_actions(actions: Actions, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """Return the feature of an action that each feature becomes in a mirrored clip, int64 [C].

    Args:
        actions: the actions of the data.
        pairs: names of actions that stand for each other in mirrored clips.

    Raises:
        DataError: if a name is unknown, or the actions are vectors, which have no mirrored ones.
    """
    if actions.size:
        raise DataError(f"data.flip=true: the data have {actions.about}, which are not known in a mirrored world")
    order = np.arange(actions.channels)
    for pair in pairs:
        if unknown := [name for name in pair if name not in actions.names]:
            raise DataError(f"data.flip_actions: {unknown[0]!r} is no action; the data have {actions.about or 'none'}")
        one, other = map(actions.names.index, pair)
        order[[one, other]] = other, one
    return order
