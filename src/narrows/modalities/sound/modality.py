"""The sound modality: how sound is opened, read, written and played."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from narrows.config import TrainingRecipe
from narrows.data import Data, Examples, Spec
from narrows.modalities.sound.dataset import CLIPPED, SoundData, open_sounds
from narrows.modalities.sound.evaluate import evaluate_sound
from narrows.modalities.sound.files import read_sound, write_sound
from narrows.modalities.sound.player import Clip, Sounds
from narrows.modalities.sound.report import phonemes_section, spoken
from narrows.modalities.sound.settings import SoundSettings
from narrows.modalities.sound.sources import EXTENSIONS
from narrows.modalities.sound.units import UNITS
from narrows.modality import Modality, Row
from narrows.models import Autoencoder
from narrows.progress import Progress
from narrows.report.page import Block, Page, Section, write_page
from narrows.training.run import RunFolder

__all__ = ["MODALITY", "SoundModality", "SoundRecipe"]

COLUMNS = 3
"""Sounds per row of a page."""

logger = logging.getLogger(__name__)


@dataclass
class SoundRecipe(TrainingRecipe):
    """Recipe of `narrows train` for sound.

    Args:
        model: the model.
        estimator: the loss and how its gradient is estimated.
        data: the data to train on.
        training: the settings of training.
        on: for a model upon another, the run folder of the first stage or its id on the hub; None for others.
        modality: the kind of data.
    """

    data: SoundSettings
    modality: Literal["sound"] = "sound"


class SoundModality(Modality):
    """Mono sound [1, T] in [-1, 1], of any length."""

    name = "sound"
    unit = "clips"
    dimension = "samples"
    suffix = ".wav"
    extensions = EXTENSIONS
    recipe = SoundRecipe
    default_prior = "wavenet"
    units = UNITS
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {"evaluate": ("phonemes", "reconstruct")}

    def open(
        self, settings: SoundSettings, progress: Progress, quiet: bool = False, spec: Spec | None = None
    ) -> SoundData:
        """Find, split and decode sound; `spec` is not needed, as the settings give the model's rate and window."""
        return open_sounds(settings, quiet, progress)

    def overrides_of_another_source(self, settings: Mapping[str, Any]) -> list[str]:
        """Return an override that holds out no speakers: `held_out_speakers` names those of the run's own data."""
        return ["--data.held_out_speakers=[]"] if settings.get("held_out_speakers") else []

    def read(self, files: Sequence[Path], spec: Spec) -> list[Tensor]:
        """Return the waveforms [1, T], mixed down and resampled to the model's rate."""
        return [_read(file, _rate(spec)) for file in files]

    def write(self, path: Path, x: Tensor, spec: Spec) -> None:
        """Write a 16-bit WAV file."""
        write_sound(path, x[0], _rate(spec))

    def save_rows(self, out: Path, title: str, rows: Sequence[Row], spec: Spec, **options: Any) -> Path:
        """Write a WAV file of each sound into a folder, with a page that plays them, and return the page's path."""
        sounds = [(row.name, x) for row in rows for x in row.examples]
        clips = []
        for index, (name, x) in enumerate(sounds):
            stem = "-".join(filter(None, [f"{index:03}", _safe(name)]))
            self.write(out / f"{stem}{self.suffix}", x, spec)
            clips.append(Clip(name or str(index + 1), x[0]))
        in_page = [clips[at : at + COLUMNS] for at in range(0, len(clips), COLUMNS)]
        return _page(out / "index.html", title, in_page, spec)

    def save_versions(
        self,
        out: Path,
        title: str,
        names: Sequence[str],
        versions: Mapping[str, Sequence[Tensor]],
        spec: Spec,
        **options: Any,
    ) -> Path:
        """Write WAV files of the last version into a folder, with a page that plays all versions side by side."""
        for name, x in zip(names, list(versions.values())[-1], strict=True):
            self.write(out / f"{name}{self.suffix}", x, spec)
        first, *others = versions
        rows = [
            [Clip(name, versions[first][index][0]), *(Clip(other, versions[other][index][0]) for other in others)]
            for index, name in enumerate(names)
        ]
        return _page(out / "index.html", title, rows, spec)

    def show_rows(self, rows: Sequence[Row], spec: Spec, caption: str) -> Block:
        """Return players of the sounds, row by row."""
        clips = [[Clip(row.name or str(index + 1), x[0]) for index, x in enumerate(row.examples)] for row in rows]
        return Sounds(caption, clips, _rate(spec))

    def show_versions(self, versions: Mapping[str, Sequence[Tensor]], spec: Spec, caption: str) -> Block:
        """Return players of the versions of each sound, side by side."""
        columns = [[Clip(name, x[0]) for x in sounds] for name, sounds in versions.items()]
        return Sounds(caption, [list(row) for row in zip(*columns, strict=True)], _rate(spec))

    def describe(self, data: Data, spec: Spec) -> str:
        """Return the number of training clips, their total length, the sample rate and the number of speakers."""
        minutes, rate = data.train.lengths.sum() / _rate(spec) / 60, _rate(spec)
        speakers = f"{len(spec.classes)} speaker{'s' * (len(spec.classes) > 1)}"
        return f"{len(data.train):,} training clips, {minutes:,.0f} minutes at {rate:,} Hz, {speakers}"

    def facts(self, model: Autoencoder, figures: Mapping[str, float]) -> dict[str, str]:
        """Return the bits and codes per second of sound."""
        if not model.discrete:
            return {}
        codes = _rate(model.spec) / model.hop * model.codes.codebooks
        return {"a second": f"{figures['bits_per_second']:.0f} bits, {codes:.0f} codes"}

    def reconstructions(self, model: Autoencoder, examples: Examples, progress: Progress) -> Iterator[Section]:
        """Yield sections with reconstructions of clips beside a control, and with converted voices."""
        return spoken(model, examples, progress)

    def sections(self, run: RunFolder, model: Autoencoder, data: Data) -> Iterator[Section]:
        """Yield a section with the results of `narrows evaluate --phonemes`."""
        return phonemes_section(run)

    def evaluate(
        self,
        run: RunFolder,
        model: Autoencoder,
        data: Data,
        examples: Examples,
        split: str,
        source: str | None,
        progress: Progress,
        phonemes: Path | None = None,
        reconstruct: int | None = None,
        **options: Any,
    ) -> dict[str, float]:
        """Return how well the codes predict phonemes, and how close the spectra of reconstructions are."""
        return evaluate_sound(run, model, data, examples, source, progress, phonemes, reconstruct)


def _rate(spec: Spec) -> int:
    assert spec.rate is not None
    return int(spec.rate)


def _read(file: Path, sample_rate: int) -> Tensor:
    """Return the sound of a file as the model reads it, float32 [1, T]; log conversions and anything unusual."""
    sound = read_sound(file, sample_rate)
    notes = {
        f"resampled from {sound.rate:,} Hz to the model's {sample_rate:,} Hz": sound.rate != sample_rate,
        f"{sound.channels} channels, mixed down to one": sound.channels > 1,
        f"clipped: {sound.clipped:.1%} of its samples are at full scale": sound.clipped > CLIPPED,
        "silent: every sample is 0": not sound.samples.any(),
    }
    for note, true in notes.items():
        if true:
            logger.warning("%s: %s", file, note)
    return torch.from_numpy(sound.samples).unsqueeze(0)


def _safe(name: str) -> str:
    """Return a name made safe for use in a file name, so that it cannot lead out of the folder."""
    return re.sub(r"[^\w.-]", "_", name)


def _page(path: Path, title: str, rows: list[list[Clip]], spec: Spec) -> Path:
    write_page(path, Page(title, sections=[Section("Sounds", blocks=[Sounds(title, rows, _rate(spec))])]))
    return path


MODALITY = SoundModality()
