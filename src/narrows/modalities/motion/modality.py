"""The motion modality: how BVH files and time series are opened, read, written, measured and shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from narrows.config import TrainingRecipe
from narrows.data import Data, DataError, Examples, Spec
from narrows.data.films import require_av
from narrows.errors import NarrowsError
from narrows.modalities.motion.dataset import MotionData, open_motion
from narrows.modalities.motion.distances import distances
from narrows.modalities.motion.errors import motion_errors
from narrows.modalities.motion.motions import Motions
from narrows.modalities.motion.results import remove_earlier, write_motion_page
from narrows.modalities.motion.settings import MotionSettings
from narrows.modalities.motion.shown import check_film, shown, write_film
from narrows.modalities.motion.standardised import Standardised
from narrows.modality import Modality, Row
from narrows.models import Autoencoder
from narrows.progress import Progress
from narrows.report.page import Block, Section
from narrows.report.sections import reconstructed

__all__ = ["MODALITY", "MotionModality", "MotionRecipe", "require_motion"]

SHOWN = 6
"""Number of reconstructions in the report."""


@dataclass
class MotionRecipe(TrainingRecipe):
    """Recipe of `narrows train` for motion.

    Args:
        model: the model.
        estimator: the loss and how its gradient is estimated.
        data: the data to train on.
        training: the settings of training.
        on: for a model upon another, the run folder of the first stage or its id on the hub; None for others.
        modality: the kind of data.
    """

    data: MotionSettings
    modality: Literal["motion"] = "motion"


class MotionModality(Modality):
    """Standardised features [C, T] of skeletons, robots and other time series, of any length."""

    name = "motion"
    unit = "motions"
    dimension = "values"
    suffix = ".bvh"
    # Tables are read, too, but in a folder of other data they are seldom motions.
    extensions = (".bvh",)
    recipe = MotionRecipe
    default_prior = "transformer"
    samples = 16
    has_figures = True
    has_distances = True
    units: ClassVar[Mapping[str, str]] = {
        "joint_angle_error": "degrees",
        "joint_position_error": "cm",
        "root_drift": "cm",
        "foot_sliding": "m/s",
        "original_foot_sliding": "m/s",
        "jerk": "m/s^3",
        "original_jerk": "m/s^3",
    }
    options: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(
        ("reconstruct", "interpolate", "sample"), ("film",)
    )

    def open(
        self, settings: MotionSettings, progress: Progress, quiet: bool = False, spec: Spec | None = None
    ) -> MotionData:
        """Find, read and split motions; given `spec`, those with the skeleton or the columns of its model."""
        return open_motion(settings, quiet, progress, spec)

    def fitted(self, spec: Spec) -> str:
        """Return the skeleton or the columns of the model."""
        form = Standardised.of(spec.details).format
        return f"read as the model's data: {form.about} at {form.rate:.4g} Hz"

    def accept(self, command: str, options: Mapping[str, Any], whose: str) -> dict[str, Any]:
        """Return the options that were set; see `Modality.accept`.

        Raises:
            NarrowsError: also for MP4 films, if PyAV is not installed.
        """
        chosen = super().accept(command, options, whose)
        if chosen.get("film") == "mp4":
            require_av("motion")
        return chosen

    def overrides_of_another_source(self, settings: Mapping[str, Any]) -> list[str]:
        """Return an override that names no files to test on: those named are of the run's own data."""
        return ["--data.test_files="] if settings.get("test_files") else []

    def suffix_of(self, spec: Spec) -> str:
        """Return the suffix of the model's own kind of files."""
        return Standardised.of(spec.details).format.suffix

    def read(self, files: Sequence[Path], spec: Spec) -> list[Tensor]:
        """Return the standardised features [C, T] of BVH files or tables."""
        scale = Standardised.of(spec.details)
        found = []
        for file in files:
            try:
                found.append(scale.to_x(scale.format.read(file)))
            except DataError as error:
                raise DataError(f"{file}: {error}") from error
        return found

    def write(self, path: Path, x: Tensor, spec: Spec) -> None:
        """Write a BVH file or a table of a motion that starts at the origin."""
        scale = Standardised.of(spec.details)
        scale.format.write(path, scale.to_features(x))

    def save_rows(
        self,
        out: Path,
        title: str,
        rows: Sequence[Row],
        spec: Spec,
        film: str | None = None,
        **options: Any,
    ) -> Path:
        """Write a file of each motion into a folder, with a page that plays them, and return the page's path.

        With `film`, gif or mp4, also write a film of each.
        """
        check_film(spec, film)
        named = _named(rows, first=0)
        remove_earlier(out, self.suffix_of(spec))
        for index, (name, x) in enumerate(named):
            self.write(out / f"{index:03}{self.suffix_of(spec)}", x, spec)
            if film:
                write_film(out / f"{index:03}.{film}", {name: x}, spec)
        return write_motion_page(out, title, shown([{name: x} for name, x in named], spec, title))

    def save_versions(
        self,
        out: Path,
        title: str,
        names: Sequence[str],
        versions: Mapping[str, Sequence[Tensor]],
        spec: Spec,
        film: str | None = None,
        **options: Any,
    ) -> Path:
        """Write files of the last version into a folder, with a page that plays all versions side by side.

        With `film`, gif or mp4, also write a film of each motion with its versions.
        """
        check_film(spec, film)
        rows = [dict(zip(versions, row, strict=True)) for row in zip(*versions.values(), strict=True)]
        first = next(iter(versions))
        for name, row in zip(names, rows, strict=True):
            self.write(out / f"{name}{self.suffix_of(spec)}", list(row.values())[-1], spec)
            if film:
                write_film(out / f"{name}.{film}", row, spec)
        labelled = [
            {(name if version == first else f"{name}: {version}"): x for version, x in row.items()}
            for name, row in zip(names, rows, strict=True)
        ]
        return write_motion_page(out, title, shown(labelled, spec, title))

    def show_rows(self, rows: Sequence[Row], spec: Spec, caption: str) -> Block:
        """Return the motions to play, a few in a row."""
        return shown([{name: x} for name, x in _named(rows, first=1)], spec, caption)

    def show_versions(self, versions: Mapping[str, Sequence[Tensor]], spec: Spec, caption: str) -> Block:
        """Return the versions of each motion side by side, to play."""
        rows = [dict(zip(versions, row, strict=True)) for row in zip(*versions.values(), strict=True)]
        return shown(rows, spec, caption)

    def figures(self, x: Tensor, reconstruction: Tensor, spec: Spec) -> dict[str, Tensor]:
        """Return the errors of joints, the drift, the sliding of feet and the jerk; see `motion_errors`."""
        scale = Standardised.of(spec.details)
        found = [
            motion_errors(scale.to_features(one), scale.to_features(other), scale.format, spec.shape[1])
            for one, other in zip(x, reconstruction, strict=True)
        ]
        return {name: torch.tensor([one[name] for one in found]) for name in found[0]}

    def describe(self, data: Data, spec: Spec) -> str:
        """Return the number of sequences and of subjects, the length of the training part and what moves."""
        form, frames = Standardised.of(spec.details).format, int(data.train.lengths.sum())
        known = set(data.train.labels.tolist()) - {-1}
        classes = f" of {len(known)} classes" if known else ""
        count = len(set(data.train.sources.tolist()))
        assert isinstance(data, MotionData)
        by = f" by {data.subjects} subject{'s' * (data.subjects > 1)}" if data.subjects else ""
        minutes = f"{frames / form.rate / 60:,.1f} minutes at {form.rate:.4g} Hz"
        return f"{count} sequences{classes}{by} for training, {minutes}, of {form.about}"

    def facts(self, model: Autoencoder, figures: Mapping[str, float]) -> dict[str, str]:
        """Return the errors of joint angles and positions of reconstructions, if the data have joints."""
        named = {"joint_angle_error": "angle error", "joint_position_error": "position error"}
        return {label: f"{figures[name]:.3g} {self.units[name]}" for name, label in named.items() if name in figures}

    def reconstructions(self, model: Autoencoder, examples: Examples, progress: Progress) -> Iterator[Section]:
        """Yield the section with some motions next to their reconstructions."""
        assert isinstance(examples, Motions)
        count, device = min(SHOWN, len(examples)), next(model.parameters()).device
        condition = torch.from_numpy(examples.labels[:count]).split(1) if model.conditional else [None] * count
        rows = []
        for index, label in enumerate(condition):
            x = examples[index].unsqueeze(0).to(device)
            made = model.versions(x) if label is None else {"reconstruction": model.reconstruct(x, label.to(device))}
            rows.append({examples.name(index): examples[index], **{name: own[0].cpu() for name, own in made.items()}})
        text = (
            "Motions of the validation split, which the model was not trained on, and "
            f"{reconstructed(model)} Each starts at the origin, and errors of the root's speeds add up."
        )
        block = shown(rows, model.spec, "Originals, each next to its reconstruction.")
        yield Section("Reconstructions", text, [block])

    def distances(
        self, data: Data, real: Examples, made: Mapping[float, Mapping[str, Sequence[Tensor]]], progress: Progress
    ) -> tuple[dict[float, dict[str, float]], str]:
        """Return Fréchet distances in the features of a classifier of the data, if one can be trained."""
        assert isinstance(data, MotionData)
        assert isinstance(real, Motions)
        return distances(data, real, made, progress)


def _named(rows: Sequence[Row], first: int) -> list[tuple[str, Tensor]]:
    """Return all motions with their names; those without one are numbered from `first`."""
    motions = [(row.name, x) for row in rows for x in row.examples]
    return [(name or str(index), x) for index, (name, x) in enumerate(motions, first)]


def require_motion(folder: str, model: Autoencoder, use: str) -> None:
    """Raise a `NarrowsError` with the `use` of a command if a model is not one of motion."""
    if model.spec.modality != MODALITY.name:
        raise NarrowsError(f"{folder} is a model of {model.spec.modality or 'tensors'}: {use}")


MODALITY = MotionModality()
