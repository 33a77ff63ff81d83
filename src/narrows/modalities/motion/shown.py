"""Motions on a page: stick figures that play, or curves of the columns of tables without known kinematics."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain, cycle
from pathlib import Path

import numpy as np
from torch import Tensor

from narrows.data import DataError, Spec
from narrows.data.films import require_av
from narrows.errors import NarrowsError
from narrows.modalities.motion.body import Body, build_body, states_of
from narrows.modalities.motion.figure import StickFigure
from narrows.modalities.motion.film import write_stick_film
from narrows.modalities.motion.formats import Format
from narrows.modalities.motion.player import StickFigures
from narrows.modalities.motion.rendered import can_render, write_rendered_film
from narrows.modalities.motion.series import TableFormat
from narrows.modalities.motion.standardised import Standardised
from narrows.report.page import Block, Figure
from narrows.report.svg import HUES, MUTED, chart, limits, padded, thin, to_svg

__all__ = ["check_film", "shown", "write_film"]

LONGEST = 20
"""The most seconds of a motion on a page."""
COLUMNS = 3
"""Single motions in a row of a page."""
DRAWN, CURVES = 4, 6
"""The most motions whose curves are drawn, and the most columns of each."""

logger = logging.getLogger(__name__)


def shown(rows: Sequence[Mapping[str, Tensor]], spec: Spec, caption: str) -> Block:
    """Return a block that shows rows of motions [C, T] by their names; those of a row play in step.

    Rows of one motion each are joined. Motions are shown for at most 20 seconds.
    """
    form = Standardised.of(spec.details).format
    features = [_features(row, spec) for row in rows]
    if any(x.shape[1] > _frames(form) for row in rows for x in row.values()):
        caption = f"{caption} The first {LONGEST} seconds of each."
    if isinstance(form, TableFormat) and form.robot is None:
        return _curves(features, form, caption)
    figures = [_figures(row, form) for row in features]
    if all(len(row) == 1 for row in figures):
        figures = [list(chain(*figures[at : at + COLUMNS])) for at in range(0, len(figures), COLUMNS)]
    return StickFigures(caption, figures, form.rate, form.up)


def check_film(spec: Spec, film: str | None) -> None:
    """Check that films can be written, before anything else is.

    Args:
        spec: specification of the motions.
        film: gif or mp4; None for no films.

    Raises:
        NarrowsError: if the kinematics are unknown, or PyAV is needed and not installed.
    """
    if film is None:
        return
    if film == "mp4":
        require_av("motion")
    form = Standardised.of(spec.details).format
    if isinstance(form, TableFormat) and form.robot is None:
        raise NarrowsError("--film: no figure is known for these data; for tables of a robot, train with data.urdf set")


def write_film(path: Path, row: Mapping[str, Tensor], spec: Spec) -> None:
    """Write motions [C, T] side by side, at most 20 seconds of them, as a GIF or MP4 film by the suffix of the path.

    Robots with a root, a vertical z axis and torque limits are rendered where MuJoCo is installed and can draw; all
    others are stick figures.

    Raises:
        NarrowsError: if the kinematics are unknown, or PyAV is needed and not installed.
    """
    form = Standardised.of(spec.details).format
    check_film(spec, path.suffix[1:])
    features = _features(row, spec)
    if isinstance(form, TableFormat) and (body := _to_render(form)):
        runs = {name: states_of(*form.states(body.robot, form.values(part))) for name, part in features.items()}
        write_rendered_film(path, body, runs, form.rate)
    else:
        write_stick_film(path, _figures(features, form), form.rate, form.up)


def _to_render(form: TableFormat) -> Body | None:
    """Return the robot to render; None for stick figures."""
    return _body(form.urdf) if form.robot and form.has_root and form.up == "z" and can_render() else None


@lru_cache(maxsize=1)
def _body(urdf: str) -> Body | None:
    try:
        return build_body(urdf)
    except DataError as error:
        logger.warning("films show stick figures: %s", error)
        return None


def _frames(form: Format) -> int:
    return max(1, round(LONGEST * form.rate))


def _features(row: Mapping[str, Tensor], spec: Spec) -> dict[str, np.ndarray]:
    scale = Standardised.of(spec.details)
    return {name: scale.to_features(x[:, : _frames(scale.format)]) for name, x in row.items()}


def _figures(row: Mapping[str, np.ndarray], form: Format) -> list[StickFigure]:
    """Return the stick figures of features; none if the kinematics are unknown."""
    figures = (form.figure(name, part) for name, part in row.items())
    return [figure for figure in figures if figure is not None]


def _curves(rows: Sequence[Mapping[str, np.ndarray]], form: TableFormat, caption: str) -> Figure:
    """Return curves of the columns of the first rows, one panel for a row and a column."""
    columns = [index for index, column in enumerate(form.layout.columns) if column.kind != "time"]
    picked = np.array(columns)[np.linspace(0, len(columns) - 1, min(CURVES, len(columns))).round().astype(int)]
    panels = []
    for row in rows[:DRAWN]:
        values = {name: form.values(part) for name, part in row.items()}
        for index in picked:
            column = form.layout.columns[index]
            unit = f", {column.unit}" if column.unit else ""
            curves = {name: part[:, index] for name, part in values.items()}
            panels.append(_panel(f"{column.name}{unit}", curves, form.rate))
    left_out = [f"{len(rows) - DRAWN} more motions"] if len(rows) > DRAWN else []
    left_out += [f"{len(columns) - len(picked)} more columns"] if len(columns) > len(picked) else []
    more = f" Not drawn: {' and '.join(left_out)}." if left_out else ""
    return Figure(f"{caption} By seconds.{more}", "".join(panels))


def _panel(title: str, curves: Mapping[str, np.ndarray], rate: float) -> str:
    # The first of several is the original.
    colours = dict(zip(curves, chain([MUTED] if len(curves) > 1 else [], cycle(HUES)), strict=False))
    drawing, axes = chart(title, list(colours.items()), alone=False)
    longest = max(map(len, curves.values()))
    for name, curve in curves.items():
        axes.plot(*thin(np.arange(len(curve)) / rate, curve), color=colours[name], linewidth=1.5)
    axes.set(xlim=padded(0, longest / rate), ylim=limits([*curves.values()]))
    return to_svg(drawing)
