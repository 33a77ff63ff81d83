"""The music modality: how MIDI files are opened, read, written, drawn and played."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from narrows.config import TrainingRecipe
from narrows.data import Data, DataError, Examples, Spec
from narrows.modalities.music.baselines import baselines
from narrows.modalities.music.dataset import EXTENSIONS, MusicData, open_music
from narrows.modalities.music.latents import song_accuracy, window_latents
from narrows.modalities.music.map import map_sections
from narrows.modalities.music.midi import read_notes, write_notes
from narrows.modalities.music.player import PianoRolls, Tune
from narrows.modalities.music.repeats import repeated_windows
from narrows.modalities.music.report import note_figures, reconstructions
from narrows.modalities.music.restoration import restoration
from narrows.modalities.music.roll import THRESHOLD, RollLayout, to_levels
from narrows.modalities.music.rolls import Rolls
from narrows.modalities.music.settings import MusicSettings
from narrows.modality import Modality, Row
from narrows.models import Autoencoder
from narrows.progress import Progress
from narrows.report.page import Block, Page, Section, write_page
from narrows.training.run import RunFolder

__all__ = ["MODALITY", "MusicModality", "MusicRecipe"]

COLUMNS = 3
"""Tunes per row of a page."""
MOST_LOST = 0.5
"""A file is refused if a larger share of its notes has pitches that the model does not have."""

logger = logging.getLogger(__name__)


@dataclass
class MusicRecipe(TrainingRecipe):
    """Recipe of `narrows train` for music.

    Args:
        model: the model.
        estimator: the loss and how its gradient is estimated.
        data: the data to train on.
        training: the settings of training.
        on: for a model upon another, the run folder of the first stage or its id on the hub; None for others.
        modality: the kind of data.
    """

    data: MusicSettings
    modality: Literal["music"] = "music"


class MusicModality(Modality):
    """Piano rolls [C, T] in [0, 1], of any length."""

    name = "music"
    unit = "pieces"
    dimension = "values"
    suffix = ".mid"
    extensions = EXTENSIONS
    recipe = MusicRecipe
    default_prior = "transformer"
    samples = 64
    has_figures = True
    units: ClassVar[Mapping[str, str]] = {
        "note_precision": "share of 1",
        "note_recall": "share of 1",
        "note_f1": "share of 1",
        "unigram_bits_per_dim": "bits per value",
        "order1_bits_per_dim": "bits per value",
        "song_accuracy": "share of 1",
        "song_accuracy_by_chance": "share of 1",
        "repeated_windows": "share of 1",
        "bits_per_step": "bits per step",
        "bits_per_note": "bits per note",
        "restored_recall": "share of 1",
        "restored_precision": "share of 1",
        "restored_f1": "share of 1",
        "damaged_f1": "share of 1",
    }
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "evaluate": ("remove",),
        **dict.fromkeys(("reconstruct", "interpolate", "sample"), ("threshold",)),
    }

    def open(
        self, settings: MusicSettings, progress: Progress, quiet: bool = False, spec: Spec | None = None
    ) -> MusicData:
        """Find, read and split MIDI files; given `spec`, use the pitches of its model."""
        return open_music(settings, quiet, progress, spec)

    def fitted(self, spec: Spec) -> str:
        """Return the pitches of the model."""
        layout = RollLayout.of(spec.details)
        return f"only notes of the model's pitches, {layout.lowest} to {layout.highest}, are read"

    def overrides_of_another_source(self, settings: Mapping[str, Any]) -> list[str]:
        """Return overrides that use all songs and tracks: `songs` and `tracks` name those of the run's own data."""
        return [f"--data.{name}=[]" for name in ("songs", "tracks") if settings.get(name)]

    def read(self, files: Sequence[Path], spec: Spec) -> list[Tensor]:
        """Return the piano rolls [C, T] of MIDI files; notes that the model does not have are counted and left out."""
        return [_read(file, spec) for file in files]

    def write(self, path: Path, x: Tensor, spec: Spec) -> None:
        """Write a MIDI file of the notes whose values are above one half."""
        _write(path, to_levels(x, RollLayout.of(spec.details)), spec)

    def save_rows(
        self,
        out: Path,
        title: str,
        rows: Sequence[Row],
        spec: Spec,
        threshold: float = THRESHOLD,
        **options: Any,
    ) -> Path:
        """Write a MIDI file of each piece into a folder, with a page that plays them, and return the page's path.

        Notes sound where their values are above `threshold`.
        """
        tunes = _tunes(rows, spec, first=0, threshold=threshold)
        _warn_of_silence(tunes)
        for index, tune in enumerate(tunes):
            _write(out / f"{index:03}{self.suffix}", tune.roll, spec)
        return _page(out / "index.html", title, _in_rows(tunes, spec, title))

    def save_versions(
        self,
        out: Path,
        title: str,
        names: Sequence[str],
        versions: Mapping[str, Sequence[Tensor]],
        spec: Spec,
        threshold: float = THRESHOLD,
        **options: Any,
    ) -> Path:
        """Write MIDI files of the last version into a folder, with a page that plays all versions side by side.

        Notes sound where their values are above `threshold`.
        """
        first, *others = versions
        labelled = {first: list(names), **{other: [f"{name}: {other}" for name in names] for other in others}}
        rows = _versions(labelled, versions, spec, threshold)
        _warn_of_silence([row[-1] for row in rows])
        for name, row in zip(names, rows, strict=True):
            _write(out / f"{name}{self.suffix}", row[-1].roll, spec)
        return _page(out / "index.html", title, _block(rows, spec, title))

    def show_rows(self, rows: Sequence[Row], spec: Spec, caption: str) -> Block:
        """Return the pieces to look at and to play, a few in a row."""
        return _in_rows(_tunes(rows, spec, first=1), spec, caption)

    def show_versions(self, versions: Mapping[str, Sequence[Tensor]], spec: Spec, caption: str) -> Block:
        """Return the versions of each piece side by side, to look at and to play."""
        labelled = {name: [name] * len(pieces) for name, pieces in versions.items()}
        return _block(_versions(labelled, versions, spec), spec, caption)

    def figures(self, x: Tensor, reconstruction: Tensor, spec: Spec) -> dict[str, Tensor]:
        """Return precision, recall and F1 of notes by step and pitch; see `note_figures`."""
        return note_figures(x, reconstruction, RollLayout.of(spec.details))

    def in_own_units(self, figures: Mapping[str, float], examples: Examples) -> dict[str, float]:
        """Return the bits of the bound per step, and per note that begins in the examples."""
        assert isinstance(examples, Rolls)
        bits = figures["bits_per_dim"]
        return {
            "bits_per_step": bits * examples.layout.channels,
            "bits_per_note": bits * examples.values.size / max(1, examples.notes),
        }

    def describe(self, data: Data, spec: Spec) -> str:
        """Return the number of songs, the length of the training part, the step and the pitches."""
        layout, steps = RollLayout.of(spec.details), int(data.train.lengths.sum())
        length = f"{steps / spec.rate / 60:,.0f} minutes at {spec.rate:g} Hz" if spec.rate else f"{steps:,} steps"
        return f"{len(spec.classes)} songs, {length} for training, pitches {layout.lowest} to {layout.highest}"

    def facts(self, model: Autoencoder, figures: Mapping[str, float]) -> dict[str, str]:
        """Return the F1 of the notes of reconstructions."""
        return {"reconstruction": f"{figures['note_f1']:.3f} note F1"}

    def reconstructions(self, model: Autoencoder, examples: Examples, progress: Progress) -> Iterator[Section]:
        """Yield the section with reconstructions of pieces, and what becomes of them with another's latents."""
        return reconstructions(model, examples)

    def sections(self, run: RunFolder, model: Autoencoder, data: Data) -> Iterator[Section]:
        """Yield the sections with the map of the latents, of training and validation windows."""
        return map_sections(model, data.train, data.validation, RollLayout.of(model.spec.details))

    def evaluate(
        self,
        run: RunFolder,
        model: Autoencoder,
        data: Data,
        examples: Examples,
        split: str,
        source: str | None,
        progress: Progress,
        remove: float | None = None,
        **options: Any,
    ) -> dict[str, float]:
        """Return how well the latents tell the songs apart, and the bits per value of two models that only count.

        Both compare with the training music, so they are left out for another source and for the training music itself.
        With `remove`, also return how well notes that are removed with this probability are restored.
        """
        assert isinstance(examples, Rolls)
        figures: dict[str, float] = {}
        held_out = data.train.stretches.isdisjoint(examples.stretches)
        if source is None and held_out:
            figures |= song_accuracy(window_latents(model, data.train), window_latents(model, examples))
            figures["repeated_windows"] = repeated_windows(data.train, examples, model.hop)
            if not examples.layout.velocity:
                figures |= baselines(data.train, examples)
        return figures if remove is None else figures | restoration(model, examples, remove)


def _read(file: Path, spec: Spec) -> Tensor:
    layout = RollLayout.of(spec.details)
    try:
        notes, unended = read_notes(file.read_bytes(), layout.clock(spec.rate), drums=layout.drums)
    except DataError as error:
        raise DataError(f"{file}: {error}") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    if unended:
        logger.warning("%s: %d notes without an end last until the last note starts or ends", file, unended)
    lost = int((~layout.covers(notes)).sum())
    if lost:
        share = lost / len(notes.pitch)
        what = (
            f"{file}: {lost} of {len(notes.pitch)} notes are outside the model's pitches, {layout.lowest} to "
            f"{layout.highest}"
        )
        if share > MOST_LOST:
            raise DataError(f"{what}: transpose it, or train a model with data.pitches set")
        logger.warning("%s, and left out", what)
    return torch.from_numpy(layout.to_roll(notes).T.astype(np.float32) / layout.scale)


def _warn_of_silence(tunes: Sequence[Tune]) -> None:
    silent = sum(not tune.roll.any() for tune in tunes)
    if silent:
        logger.warning(
            "%d of %d pieces have no notes: a model that is sure of none needs a lower --threshold, or more training",
            silent,
            len(tunes),
        )


def _write(path: Path, roll: np.ndarray, spec: Spec) -> None:
    layout = RollLayout.of(spec.details)
    write_notes(path, layout.to_notes(roll), layout.clock(spec.rate))


def _tunes(rows: Sequence[Row], spec: Spec, first: int, threshold: float = THRESHOLD) -> list[Tune]:
    """Return all pieces; those without a name are numbered from `first`."""
    layout = RollLayout.of(spec.details)
    pieces = [(row.name, x) for row in rows for x in row.examples]
    return [Tune(name or str(index), to_levels(x, layout, threshold)) for index, (name, x) in enumerate(pieces, first)]


def _in_rows(tunes: Sequence[Tune], spec: Spec, caption: str) -> PianoRolls:
    return _block([tunes[at : at + COLUMNS] for at in range(0, len(tunes), COLUMNS)], spec, caption)


def _versions(
    names: Mapping[str, Sequence[str]],
    versions: Mapping[str, Sequence[Tensor]],
    spec: Spec,
    threshold: float = THRESHOLD,
) -> list[tuple[Tune, ...]]:
    """Return a row for each piece, with its versions."""
    layout = RollLayout.of(spec.details)
    columns = (
        [Tune(name, to_levels(x, layout, threshold)) for name, x in zip(names[version], pieces, strict=True)]
        for version, pieces in versions.items()
    )
    return list(zip(*columns, strict=True))


def _block(rows: Sequence[Sequence[Tune]], spec: Spec, caption: str) -> PianoRolls:
    layout = RollLayout.of(spec.details)
    return PianoRolls(caption, rows, layout, layout.clock(spec.rate))


def _page(path: Path, title: str, block: Block) -> Path:
    write_page(path, Page(title, sections=[Section("Pieces", blocks=[block])]))
    return path


MODALITY = MusicModality()
