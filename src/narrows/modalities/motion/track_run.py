"""The command `narrows track`: how a robot in simulation follows held-out motions, and what a model decodes of them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from narrows.atomic import whole_file
from narrows.commands.source import open_run, open_run_data
from narrows.errors import NarrowsError
from narrows.modalities.motion.body import Body, Gains, build_body
from narrows.modalities.motion.figure import StickFigure, robot_figure
from narrows.modalities.motion.film import write_stick_film
from narrows.modalities.motion.modality import MODALITY
from narrows.modalities.motion.player import StickFigures
from narrows.modalities.motion.reference import Reference, reference_of
from narrows.modalities.motion.rendered import can_render, write_rendered_film
from narrows.modalities.motion.results import remove_earlier
from narrows.modalities.motion.series import TableFormat
from narrows.modalities.motion.shown import check_film
from narrows.modalities.motion.standardised import Standardised
from narrows.modalities.motion.tracking import Control, Tracked, track
from narrows.models import Autoencoder
from narrows.pretrained import load
from narrows.progress import Progress, hidden
from narrows.report.page import Cell, Page, Section, Table, write_page
from narrows.report.tables import write_csv

__all__ = ["TrackedWindow", "track_run"]

SHOWN = 3
"""The most windows on the page and in films."""
KINDS = ("original", "decoded")
COLUMNS = {
    "seconds": "time until a fall, s",
    "fell": "falls, share",
    "angle_error": "angle error, degrees",
    "position_error": "position error, cm",
}


class TrackedWindow(NamedTuple):
    """A window of a held-out motion, and how it and what was decoded of it were followed."""

    name: str
    references: Mapping[str, Reference]
    """By kind: original and decoded."""
    tracked: Mapping[str, Tracked]


class Spread(NamedTuple):
    """Mean and standard error of a figure over windows."""

    mean: float
    standard_error: float | None
    """None of one window."""

    def __str__(self) -> str:
        return f"{self.mean:.3g}" if self.standard_error is None else f"{self.mean:.3g} ± {self.standard_error:.2g}"


def track_run(
    folder: str,
    split: str = "test",
    seconds: float = 4.0,
    limit: int = 20,
    control: Control | None = None,
    gains: Gains | None = None,
    film: str | None = None,
    out: Path | None = None,
    progress: Progress = hidden,
) -> Path:
    """Let the robot of a run follow windows of held-out motions, and write tables and a page; return the page's path.

    Each window is followed twice: as it is, and as the model decodes it from its codes. The robot starts in the first
    state of the motion, with its speeds, and falls or reaches the end.

    Args:
        folder: the run folder, or its id on the hub.
        split: test, validation or train.
        seconds: length of a window.
        limit: the largest number of windows, spread evenly over the split.
        control: what the motors do; None for the defaults.
        gains: the motors; None for the defaults.
        film: gif or mp4, to also write films of the first windows; None for none.
        out: folder to write to; None means `tracked` in the run folder.
        progress: shows the progress.

    Raises:
        NarrowsError: if the run is not one of a robot with a root and a URDF file, the split has no window as long as
            that, or mujoco or, for an MP4 film, PyAV is not installed.
    """
    model, run = load(folder), open_run(folder)
    form = _robot_format(folder, model)
    check_film(model.spec, film)
    control, gains = control or Control(), gains or Gains()
    if not 0 < seconds < math.inf:
        raise NarrowsError(f"--seconds is {seconds}: it must be a positive number")
    body = build_body(form.urdf, gains)
    data = open_run_data(run, model, progress=progress)
    frames = round(seconds * form.rate) // model.hop * model.hop
    examples = data.split(split).numbered(model.classes)
    labels = examples.labels
    found = [
        (f"{examples.name(index)}, window {at // frames + 1}", x[:, at : at + frames], index)
        for index, x in enumerate(examples[number] for number in range(len(examples)))
        for at in range(0, x.shape[1] - frames + 1, max(1, frames))
    ]
    if frames < 2 or not found:
        raise NarrowsError(f"--seconds {seconds:g}: the {split} split has no window of that length; data.clip cuts it")
    chosen = [found[int(at)] for at in np.linspace(0, len(found) - 1, min(limit, len(found))).round()]
    windows = []
    with progress("track", len(chosen), "windows") as meter:
        for name, x, index in chosen:
            label = None if labels is None or not model.conditional else torch.tensor([int(labels[index])])
            motions = (x, model.reconstruct(x.unsqueeze(0), label)[0])
            references = {kind: _reference(body, form, one, model) for kind, one in zip(KINDS, motions, strict=True)}
            tracked = {kind: track(body, reference, control) for kind, reference in references.items()}
            windows.append(TrackedWindow(name, references, tracked))
            meter.advance()
    out = out or run.outputs / "tracked"
    remove_earlier(out)
    write_csv(out / "tracking.csv", _rows(windows))
    summary = {kind: _summary([window.tracked[kind] for window in windows]) for kind in KINDS}
    with whole_file(out / "tracking.json") as aside:
        record = {"run": folder, "split": split, "windows": len(windows), "seconds": (frames - 1) / form.rate}
        figures = {kind: {name: one._asdict() for name, one in own.items()} for kind, own in summary.items()}
        settings = {"control": asdict(control), "gains": asdict(gains)}
        aside.write_text(json.dumps(record | settings | {"figures": figures}, indent=1), encoding="utf-8")
    if film:
        _write_films([out / f"{number:03}.{film}" for number in range(SHOWN)], body, windows, form)
    return _write_page(out / "index.html", windows, summary, body, form, control, (frames - 1) / form.rate)


def _robot_format(folder: str, model: Autoencoder) -> TableFormat:
    """Return the format of a robot's motions.

    Raises:
        NarrowsError: if the model is of something else.
    """
    form = Standardised.of(model.spec.details).format if model.spec.modality == MODALITY.name else None
    if not isinstance(form, TableFormat) or form.robot is None or not form.has_root or form.up != "z":
        raise NarrowsError(
            f"{folder} is no model of a robot that can be simulated: it needs tables with the position and the "
            "quaternion of a root, z up, and data.urdf"
        )
    return form


def _reference(body: Body, form: TableFormat, x: Tensor, model: Autoencoder) -> Reference:
    features = Standardised.of(model.spec.details).to_features(x)
    return reference_of(body, *form.states(body.robot, form.values(features)), form.rate)


def _rows(windows: Sequence[TrackedWindow]) -> Iterator[dict[str, Cell]]:
    for window in windows:
        for kind, tracked in window.tracked.items():
            figures = {name: getattr(tracked, name) for name in COLUMNS}
            yield {"window": window.name, "motion": kind, **figures, "fell": int(tracked.fell)}


def _summary(tracked: Sequence[Tracked]) -> dict[str, Spread]:
    """Return mean and standard error over the windows of each figure; a fall at once leaves no errors to average."""
    found = {}
    for name in COLUMNS:
        values = np.array([getattr(one, name) for one in tracked], np.float64)
        values = values[np.isfinite(values)]
        error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
        if len(values):
            found[name] = Spread(float(values.mean()), error)
    return found


def _write_page(
    path: Path,
    windows: Sequence[TrackedWindow],
    summary: Mapping[str, Mapping[str, Spread]],
    body: Body,
    form: TableFormat,
    control: Control,
    seconds: float,
) -> Path:
    rows: list[list[Cell]] = [
        [kind, *(str(own[name]) if name in own else None for name in COLUMNS)] for kind, own in summary.items()
    ]
    text = (
        f"{len(windows)} windows of {seconds:.3g} s, followed from their first state by motors with the control "
        f"{control.torques}. Means ± standard errors over the windows; errors are those until the fall, each from the "
        "motion followed itself. A robot fell if its root is 30 cm below the motion's, or tilted 45 degrees from it."
    )
    if control.assist:
        text += f" A spring of {control.assist:g} N/m held the root from outside, which no robot has."
    figures = [_figures(body, window, form) for window in windows[:SHOWN]]
    single: list[list[Cell]] = [list(row.values()) for row in _rows(windows)]
    sections = [
        Section("Figures", text, [Table("", ["motion", *COLUMNS.values()], rows)]),
        Section("Motions", blocks=[StickFigures("The motion, and the robot until it fell.", figures, form.rate, "z")]),
        Section("Windows", blocks=[Table("", ["window", "motion", *COLUMNS.values()], single)]),
    ]
    write_page(path, Page(f"{path.parent.name}: motions followed in simulation", sections=sections))
    return path


def _runs(window: TrackedWindow, form: TableFormat, body: Body) -> dict[str, np.ndarray]:
    """Return the states at the rate of the motions: of the original motion, and of the robot that followed it."""
    stride = 1 / (form.rate * body.model.opt.timestep)
    states = {"motion": window.references["original"].positions}
    states |= {f"{kind}, followed": tracked.states for kind, tracked in window.tracked.items()}
    return {
        name: own[np.arange(0, len(own), stride).round().astype(int).clip(max=len(own) - 1)]
        for name, own in states.items()
    }


def _figures(body: Body, window: TrackedWindow, form: TableFormat) -> list[StickFigure]:
    return [
        robot_figure(name, body.robot, body.robot.pose(own[:, :3], own[:, [4, 5, 6, 3]], own[:, 7:]))
        for name, own in _runs(window, form, body).items()
    ]


def _write_films(paths: Sequence[Path], body: Body, windows: Sequence[TrackedWindow], form: TableFormat) -> None:
    """Write a rendered film of each window; films of stick figures where MuJoCo cannot draw."""
    for path, window in zip(paths, windows, strict=False):
        if can_render():
            write_rendered_film(path, body, _runs(window, form, body), form.rate)
        else:
            write_stick_film(path, _figures(body, window, form), form.rate, "z")
