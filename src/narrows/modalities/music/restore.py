"""Filling in notes: the notes that a model's reconstruction adds to a piece that lacks some."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from narrows.atomic import whole_file
from narrows.commands.source import open_run
from narrows.decoding import Decoding, decode_drawn
from narrows.files import distinct_stems
from narrows.modalities.music.midi import add_notes
from narrows.modalities.music.modality import MODALITY
from narrows.modalities.music.roll import THRESHOLD, RollLayout, require_threshold, to_levels
from narrows.pretrained import load
from narrows.progress import Progress, hidden
from narrows.report.page import Page, Section, write_page

__all__ = ["missing_notes", "restore"]


def missing_notes(roll: np.ndarray, made: np.ndarray, layout: RollLayout) -> np.ndarray:
    """Return `made`, a roll uint8 [T, C], without the values whose pitch sounds in the roll of the same shape."""
    silent = roll[:, : layout.pitches] == 0
    return np.where(np.concatenate([silent] * (layout.channels // layout.pitches), 1), made, 0)


def restore(
    folder: str,
    files: Sequence[Path],
    out: Path | None = None,
    decoding: Decoding | None = None,
    threshold: float = THRESHOLD,
    progress: Progress = hidden,
) -> Path:
    """Write MIDI files with the notes that a model's reconstructions add to them, in a track of their own.

    Tracks, instruments, drums and tempos of the files stay as they are. A page shows and plays both versions.

    Args:
        folder: the run folder, or its id on the hub.
        files: the MIDI files.
        out: folder to write to; None means `restored` in the run folder.
        decoding: how a decoder that reads the data draws.
        threshold: probability above which a note is added; not for decoders that draw.
        progress: shows the progress.

    Returns:
        the path of the page.

    Raises:
        DataError: if a file cannot be read.
        NarrowsError: if the threshold has no effect.
    """
    model = load(folder)
    require_threshold(threshold, model.autoregressive)
    layout = RollLayout.of(model.spec.details)
    given = MODALITY.read(files, model.spec)
    made = decode_drawn(model, model.encode_all(given), None, decoding or Decoding(), progress)
    names = distinct_stems([str(file) for file in files])
    out = out or open_run(folder).outputs / "restored"
    restored = []
    for name, file, x, y in zip(names, files, given, made, strict=True):
        roll = to_levels(x, layout)
        added = missing_notes(roll, to_levels(y[:, : x.shape[1]], layout, threshold), layout)
        restored.append(torch.from_numpy((roll + added).T.astype(np.float32) / layout.scale))
        whole = add_notes(file.read_bytes(), layout.to_notes(added), layout.clock(model.spec.rate))
        with whole_file(out / f"{name}{MODALITY.suffix}") as aside:
            aside.write_bytes(whole)
    block = MODALITY.show_versions({"given": given, "restored": restored}, model.spec, ", ".join(names))
    page = Page(f"Restored by {folder}", sections=[Section("Given and restored", blocks=[block])])
    write_page(out / "index.html", page)
    return out / "index.html"
