"""Filling in notes: the notes that a model's reconstruction adds to a piece that lacks some."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from narrows.commands.source import open_run
from narrows.decoding import Decoding, decode_drawn
from narrows.files import distinct_stems
from narrows.modalities.music.modality import MODALITY
from narrows.modalities.music.roll import THRESHOLD, RollLayout, to_levels
from narrows.pretrained import load
from narrows.progress import Progress, hidden

__all__ = ["filled_in", "restore"]


def filled_in(roll: np.ndarray, made: np.ndarray, layout: RollLayout) -> np.ndarray:
    """Return a roll uint8 [T, C] with the notes of `made`, of the same shape, where the roll's pitch is silent."""
    silent = roll[:, : layout.pitches] == 0
    return np.where(np.concatenate([silent] * (layout.channels // layout.pitches), 1), made, roll)


def restore(
    folder: str,
    files: Sequence[Path],
    out: Path | None = None,
    decoding: Decoding | None = None,
    threshold: float = THRESHOLD,
    progress: Progress = hidden,
) -> Path:
    """Write files with the notes that the model's reconstructions add to them, and return the path of their page.

    Args:
        folder: the run folder, or its id on the hub.
        files: the MIDI files.
        out: folder to write to; None means `restored` in the run folder.
        decoding: how a decoder that reads the data draws.
        threshold: probability above which a note is added.
        progress: shows the progress.

    Raises:
        DataError: if a file cannot be read.
    """
    model = load(folder)
    layout = RollLayout.of(model.spec.details)
    given = MODALITY.read(files, model.spec)
    made = decode_drawn(model, model.encode_all(given), None, decoding or Decoding(), progress)
    whole = [
        filled_in(to_levels(x, layout), to_levels(y[:, : x.shape[1]], layout, threshold), layout)
        for x, y in zip(given, made, strict=True)
    ]
    restored = [torch.from_numpy(roll.T.astype(np.float32) / layout.scale) for roll in whole]
    names = distinct_stems([str(file) for file in files])
    out = out or open_run(folder).outputs / "restored"
    return MODALITY.save_versions(
        out, f"Restored by {folder}", names, {"given": given, "restored": restored}, model.spec
    )
