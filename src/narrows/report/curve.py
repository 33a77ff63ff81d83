"""The report of a rate-distortion curve: figures by distortion, and reconstructions and samples of each point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.ticker import FuncFormatter, NullFormatter
from torch import Tensor

from narrows.atomic import whole_file
from narrows.data import Spec
from narrows.evaluation.curve import Curve
from narrows.modality import Modality
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
"""Tolerance of the squared error around its target, as a share of the target."""

COLUMNS = {
    "gamma": "target",
    "squared_error": "squared error",
    "off_target": "off target (validation)",
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


def report_curve(curve: Curve, modality: Modality, spec: Spec, out: Path) -> Path:
    """Write `report.html`, `curve.csv`, `curve.svg` and files of the reconstructions and samples into `out`.

    Returns:
        the path of the report.
    """
    rows = [point.row for point in curve.points]
    write_csv(out / "curve.csv", rows)
    drawing = _drawing(rows)
    with whole_file(out / "curve.svg") as aside:
        aside.write_text(standalone(drawing))
    names = [f"{point.gamma:g}: {point.rate_bits:.0f} bits" for point in curve.points]
    made: dict[str, tuple[str, dict[str, Sequence[Tensor]]]] = {
        "reconstructions": (
            "Test examples and means of p(x|z), labelled with the target squared error and the rate.",
            {
                "original": curve.originals,
                **{name: point.reconstructions for name, point in zip(names, curve.points, strict=True)},
            },
        )
    }
    drawn: dict[str, Sequence[Tensor]] = {
        name: point.samples for name, point in zip(names, curve.points, strict=True) if point.samples is not None
    }
    if len(drawn) == len(names):
        made["samples"] = ("Means of p(x|z) for latents drawn from the prior.", drawn)
    blocks = {}
    for name, (caption, versions) in made.items():
        numbers = [str(index + 1) for index in range(len(next(iter(versions.values()))))]
        modality.save_versions(out / name, caption, numbers, versions, spec)
        blocks[name] = modality.show_versions(versions, spec, caption)
    columns = {name: title for name, title in COLUMNS.items() if name in rows[0]}
    cells: list[list[Cell]] = [
        [f"{row[name]:+.1%}" if name == "off_target" else row[name] for name in columns] for row in rows
    ]
    in_nats: list[list[Cell]] = [[row[name] for name in NATS] for row in rows]
    tables = [
        Table("", list(columns.values()), cells),
        Table("The same in nats per example.", list(NATS.values()), in_nats),
    ]
    page = Page(
        f"{curve.title}: {len(rows)} distortions",
        curve.about,
        {
            "points": str(len(rows)),
            "squared errors": f"{rows[0]['squared_error']:.3g} to {rows[-1]['squared_error']:.3g}",
        },
        [
            Section("Figures", _text(curve, rows), [*tables, drawing]),
            *(Section(name.capitalize(), blocks=[block]) for name, block in blocks.items()),
        ],
    )
    write_page(out / "report.html", page)
    return out / "report.html"


def _text(curve: Curve, rows: Sequence[Mapping[str, float]]) -> str:
    text = (
        f"Figures of a split ({curve.measured_on}); the target distortion was held on the training examples. The rate "
        "is the cost of the latents in bits per dimension. The squared error is summed over the dimensions of an "
        "example. The ELBO is that of dequantised data."
    )
    if missed := [f"{row['gamma']:g}" for row in rows if abs(row["off_target"]) > MISSED]:
        text += f" More than {MISSED:.0%} off target on the validation split: {', '.join(missed)}."
    if curve.lost:
        text += f" Diverged in training and not shown: {', '.join(f'{gamma:g}' for gamma in curve.lost)}."
    return f"{text} {curve.distances}".strip()


def _drawing(rows: Sequence[dict[str, float]]) -> Figure:
    """Draw a panel for each quantity against the squared error on a logarithmic axis."""
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
    return Figure("By the squared error reached per example, on a logarithmic axis.", "".join(drawings))
