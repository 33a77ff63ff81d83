"""The report of a rate-distortion curve: the figures against the distortion reached, and what each point looks like."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.ticker import FuncFormatter, NullFormatter
from torch import Tensor

from narrows.atomic import whole_file
from narrows.evaluation.curve import Point
from narrows.modalities.images.pictures import grid
from narrows.report.page import Cell, Figure, Page, Section, Table, write_page
from narrows.report.svg import ACCENT, chart, padded, standalone, to_svg
from narrows.report.tables import write_csv

__all__ = ["report_curve"]

PANELS = {
    "rate_bits_per_dim": "Rate, bits/dim",
    "log_likelihood_bits_per_dim": "log2 p(x|z), bits/dim",
    "elbo_bits_per_dim": "ELBO, bits/dim",
    "frechet_samples": "Fréchet distance of samples",
    "frechet_reconstructions": "Fréchet distance of reconstructions",
}
MISSED = 0.02
"""How far the squared error may be from its target, as a share of it."""

COLUMNS = {
    "gamma": "target",
    "squared_error": "squared error",
    "off_target": "off on validation",
    **PANELS,
    "psnr": "PSNR, dB",
    "multiplier": "multiplier",
}
NATS = {
    "gamma": "target",
    "rate_nats": "rate",
    "log_likelihood_nats": "log p(x|z)",
    "elbo_nats": "ELBO",
}


def report_curve(
    title: str,
    about: str,
    points: Sequence[Point],
    lost: Sequence[float],
    originals: Tensor,
    accuracy: float | None,
    measured_on: str,
    compared: int,
    out: Path,
) -> Path:
    """Write `report.html`, `curve.csv`, `curve.svg`, `reconstructions.png` and `samples.png` into `out`.

    Args:
        title: what was trained.
        about: what that is.
        points: from the largest gamma to the smallest.
        lost: the gammas whose training diverged.
        originals: the images of which the points hold reconstructions, [N, C, H, W].
        accuracy: of the classifier whose features the Fréchet distances are in; None where there are none.
        measured_on: the split that the figures are of, and how much of it; see `narrows.report.sections.counted`.
        compared: how many images the Fréchet distances are of.
        out: the folder of the curve.

    Returns:
        the path of the report.
    """
    rows = [point.row for point in points]
    write_csv(out / "curve.csv", rows)
    drawing = _drawing(rows)
    with whole_file(out / "curve.svg") as aside:
        aside.write_text(standalone(drawing))
    names = [f"{point.gamma:g}: {point.rate_bits:.0f} bits" for point in points]
    width = len(originals)
    reconstructions = grid(
        torch.cat([originals, *(point.reconstructions for point in points)]),
        width,
        ["original", *names],
        "Images of the test split and the mean of p(x|z); the squared error held, and the rate that it took.",
    )
    pictures = {"reconstructions": reconstructions}
    drawn = [point.samples for point in points if point.samples is not None]
    if len(drawn) == len(points):
        text = "Means of p(x|z), the latents drawn from the prior."
        pictures["samples"] = grid(torch.cat(drawn), width, names, text)
    for name, picture in pictures.items():
        with whole_file(out / f"{name}.png") as aside:
            aside.write_bytes(base64.b64decode(picture.png))
    columns = {name: title for name, title in COLUMNS.items() if name in rows[0]}
    cells: list[list[Cell]] = [
        [f"{row[name]:+.1%}" if name == "off_target" else row[name] for name in columns] for row in rows
    ]
    in_nats: list[list[Cell]] = [[row[name] for name in NATS] for row in rows]
    tables = [
        Table("", list(columns.values()), cells),
        Table("The same in nats an image.", list(NATS.values()), in_nats),
    ]
    page = Page(
        f"{title}: {len(points)} distortions",
        about,
        {
            "points": str(len(points)),
            "squared errors": f"{rows[0]['squared_error']:.3g} to {rows[-1]['squared_error']:.3g}",
        },
        [
            Section("Figures", _text(rows, lost, accuracy, measured_on, compared), [*tables, drawing]),
            *(Section(name.capitalize(), blocks=[picture]) for name, picture in pictures.items()),
        ],
    )
    write_page(out / "report.html", page)
    return out / "report.html"


def _text(
    rows: Sequence[Mapping[str, float]], lost: Sequence[float], accuracy: float | None, measured_on: str, compared: int
) -> str:
    text = (
        f"On images of a split ({measured_on}); the target was held on the training images. The rate is what the "
        "latents cost, in bits per dimension, of which an image has pixels times channels; the squared error, summed "
        "over the pixels of an image, what they leave; the ELBO is over dequantised pixels."
    )
    if missed := [f"{row['gamma']:g}" for row in rows if abs(row["off_target"]) > MISSED]:
        text += f" More than {MISSED:.0%} off their target on the validation split: {', '.join(missed)}."
    if lost:
        text += f" Diverged in training, and not shown: {', '.join(f'{gamma:g}' for gamma in lost)}."
    if accuracy is None:
        return f"{text} There is no Fréchet distance: it takes labels to learn features from, and more test images."
    return (
        f"{text} The Fréchet distances are of {compared:,} images to as many of the test split, in the features of a "
        f"small classifier of these data ({accuracy:.1%} of the test images told right): they compare these "
        "models with each other alone."
    )


def _drawing(rows: Sequence[dict[str, float]]) -> Figure:
    """A panel for every quantity, against the squared error on a logarithmic axis."""
    x = np.array([row["squared_error"] for row in rows])
    drawings = []
    for name, title in PANELS.items():
        if name not in rows[0]:
            continue
        y = np.array([row[name] for row in rows])
        figure, axes = chart(title, [], alone=False)
        axes.plot(x, y, color=ACCENT, linewidth=1.8, marker="o", markersize=4)
        low, high = padded(np.log(x).min(), np.log(x).max())
        axes.set(xscale="log", xlim=(np.exp(low), np.exp(high)), ylim=padded(y.min(), y.max()))
        axes.set_xticks([row["gamma"] for row in rows])
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        drawings.append(to_svg(figure))
    return Figure("Against the squared error of an image that was reached, logarithmic.", "".join(drawings))
