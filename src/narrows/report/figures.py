"""Drawings of a report: learning curves, bits split into rate and distortion, rates of layers, codebook use."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from matplotlib.ticker import FuncFormatter, NullFormatter
from torch import Tensor

from narrows.bottlenecks.usage import perplexity
from narrows.report.page import TEMPLATES, Figure
from narrows.report.svg import ACCENT, MUTED, SECOND, canvas, chart, limits, padded, short, thin, to_svg

__all__ = ["bits_bar", "codebook_use", "layer_bars", "learning_curves"]

TITLES = {
    "bits_per_dim": "Bits per dimension",
    "rate_bits_per_dim": "Rate (bits/dim)",
    "distortion_bits_per_dim": "Distortion (bits/dim)",
    "log_likelihood": "log p(x|z) (nats)",
    "bits_per_code": "Bits per code",
    "loss": "Loss",
    "perplexity": "Perplexity of the codes",
    "usage": "Share of codes in use",
    "multiplier": "Multiplier l",
    "squared_error": "Squared error per example",
    "rate": "Rate (nats)",
    "rate_first_stage": "Rate of the first stage (nats)",
    "active_units": "Active units",
    "commitment": "Commitment loss",
    "codebook": "Codebook loss",
    "mse": "Mean squared error",
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "gradient_norm": "Gradient norm",
    "gradient_variance": "Variance of the encoder's gradient",
    "gradient_noise": "Noise in the encoder's gradient (share)",
    "skipped": "Steps skipped (share)",
    "learning_rate": "Learning rate",
}
"""Titles of known quantities, drawn first and in this order; any other has its key as title."""

UNDRAWN = {"step", "epoch", "seconds", "waiting", "peak_memory_mib"}
"""Logged quantities of the run rather than the model, which are not drawn; nor are keys ending in `_per_second`."""

COLLAPSED = 0.01
"""Rate in nats below which a layer counts as collapsed."""

LINES = {"train": (MUTED, 1.0), "validation": (ACCENT, 1.8)}
"""Colour and width of each split's curve."""


def learning_curves(rows: Iterable[Mapping[str, Any]]) -> Figure:
    """Draw a panel for each logged quantity, with one curve per split.

    Args:
        rows: rows of metrics.jsonl, each with a "step", a "split" ("train" if missing) and any numbers. If a resumed
            run left several rows for one step, the last counts.
    """
    panels: dict[str, dict[str, dict[float, float]]] = {}
    left_out: dict[str, int] = {}
    for row in rows:
        for key, value in row.items():
            if key in UNDRAWN or key.endswith("_per_second") or not isinstance(value, int | float):
                continue
            if math.isfinite(value):
                panels.setdefault(key, {}).setdefault(row.get("split", "train"), {})[row["step"]] = value
            else:
                left_out[key] = left_out.get(key, 0) + 1

    caption = (
        "By training step. Training curves are running means over 2% of their points. Early or isolated extremes that "
        "would flatten a panel are cut off."
    )
    if not panels:
        caption = "No curve has been logged yet."
    if left_out:
        counts = ", ".join(f"{key} ({count})" for key, count in left_out.items())
        caption += f" Values left out because they are not finite: {counts}."
    steps = [step for splits in panels.values() for points in splits.values() for step in points]
    known = list(TITLES)
    order = sorted(panels, key=lambda key: known.index(key) if key in TITLES else len(known))
    drawings = [_panel(_title(key), panels[key], steps, alone=len(panels) == 1) for key in order]
    return Figure(caption, "".join(drawings))


def bits_bar(
    bars: Mapping[str, tuple[float, float]],
    caption: str = "Bits per dimension: the cost of the codes (rate) and of the data given the codes (distortion).",
) -> Figure:
    """Draw horizontal bars of bits/dim, each split into rate and distortion.

    Args:
        bars: (rate, distortion) in bits/dim by name, such as "uniform prior" and "learned prior". A negative part,
            which a density can give, is stated but has no length.
        caption: caption of the figure.

    Raises:
        ValueError: if a rate or distortion is not finite, or there is no bar.
    """
    for name, parts in bars.items():
        if not all(map(math.isfinite, parts)):
            raise ValueError(f"The bar {name!r} needs a finite rate and distortion; got {parts}.")
    if not bars:
        raise ValueError("There is no bar to draw: give the rate and distortion of at least one prior.")
    lengths = {name: np.maximum(parts, 0.0) for name, parts in bars.items()}
    longest = max(length.sum() for length in lengths.values()) or 1.0
    shares = {name: (100 * length / longest).tolist() for name, length in lengths.items()}
    return Figure(caption, TEMPLATES.get_template("bits.svg").render(bars=bars, shares=shares))


def layer_bars(
    rates: Mapping[tuple[str, int], float],
    caption: str = "Rate of each layer in nats, from the first to the last, on a logarithmic axis.",
) -> Figure:
    """Draw a bar for each layer's rate; a rate below `COLLAPSED` nats has no bar.

    Args:
        rates: rate of each layer in nats per example, by its group, such as "8x8", and its number in the group. Groups
            alternate between two colours.
        caption: caption of the figure.

    Raises:
        ValueError: if there is no layer, or a rate is not finite.
    """
    if not rates or not all(map(math.isfinite, rates.values())):
        raise ValueError(f"Drawing bars needs the finite rates of at least one layer; got {dict(rates)}.")
    groups = list(dict.fromkeys(group for group, _ in rates))
    figure, axes = canvas("Rate by layer, nats", 660, 230)
    values = np.array(list(rates.values()))
    top = max(10 * COLLAPSED, float(values.max()))
    axes.set(yscale="log", ylim=(COLLAPSED, 1.5 * top), xlim=(-0.6, len(values) - 0.4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    ticks = []
    for number, group in enumerate(groups):
        places = [place for place, (own, _) in enumerate(rates) if own == group]
        heights = np.maximum(values[places], COLLAPSED)
        axes.bar(places, heights - COLLAPSED, 0.8, COLLAPSED, color=(ACCENT, SECOND)[number % 2])
        ticks.append((sum(places) / len(places), group))
    axes.set_xticks([place for place, _ in ticks], [group for _, group in ticks])
    return Figure(caption, to_svg(figure))


def codebook_use(
    counts: Tensor | np.ndarray,
    caption: str = "Share of use of each code, the most used first. The dashed line is the share under equal use.",
) -> Figure:
    """Draw the sorted shares of use of the codes on a logarithmic axis, in a panel for each codebook.

    Args:
        counts: number of uses of each code, [K] or [M, K] for M codebooks.
        caption: caption of the figure.

    Raises:
        ValueError: if a count is negative or not finite, or a codebook was never used.
    """
    used = torch.atleast_2d(torch.as_tensor(counts)).cpu().double()
    if not used.isfinite().all() or (used < 0).any() or (used.sum(1) == 0).any():
        raise ValueError("The use of a codebook must be finite counts, not negative and not all 0: encode data first.")
    shares = (used / used.sum(1, keepdim=True)).sort(dim=1, descending=True).values.numpy()
    perplexities = perplexity(used).tolist()
    codebooks, size = shares.shape
    # Whole decades, and at least one, because a log axis has labels only there.
    bottom, top = (10.0 ** math.ceil(math.log10(edge)) for edge in (shares[shares > 0].min() / 10, shares.max()))
    drawings = []
    for number in range(codebooks):
        title = "Share of use by rank" if codebooks == 1 else f"Codebook {number + 1}"
        share = shares[number][shares[number] > 0]
        note = f"perplexity {short(perplexities[number])} of {size}; {len(share)} in use"
        figure, axes = chart(title, [(note, ACCENT)], alone=codebooks == 1)
        axes.set(xlim=(0.5, size + 0.5), yscale="log", ylim=(bottom, top))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        rank, share = thin(np.arange(1, len(share) + 1), share)
        axes.axhline(1 / size, color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
        axes.fill_between(rank, share, bottom, color=ACCENT, alpha=0.12, linewidth=0)
        axes.plot(rank, share, color=ACCENT, linewidth=1.6, marker=_marker(rank), markersize=4)
        drawings.append(to_svg(figure))
    return Figure(caption, "".join(drawings))


def _title(key: str) -> str:
    if key.startswith("rate_at_"):
        return f"Rate at {key.removeprefix('rate_at_')} (nats)"
    return TITLES.get(key, key)


def _panel(title: str, splits: Mapping[str, Mapping[float, float]], steps: list[float], alone: bool) -> str:
    """Draw one quantity over training, given the values of each split by step."""
    curves = {}
    for split, points in splits.items():
        x, y = np.array(sorted(points.items()), dtype=float).T
        curves[split] = (x, _running_mean(y) if split == "train" else y)
    lines = {split: LINES.get(split, (SECOND, 1.8)) for split in curves}
    notes = [(f"{split} {short(y[-1])}", lines[split][0]) for split, (_, y) in curves.items()]
    figure, axes = chart(title, notes, alone)
    for split, (x, y) in curves.items():
        colour, width = lines[split]
        axes.plot(*thin(x, y), color=colour, linewidth=width, marker=_marker(x), markersize=4)
    axes.set(xlim=padded(min(steps), max(steps)), ylim=limits([y for _, y in curves.values()]))
    return to_svg(figure)


def _running_mean(values: np.ndarray) -> np.ndarray:
    """Return the running mean over a window of 2% of the values, shortened at both ends."""
    window = np.ones(len(values) // 100 * 2 + 1)
    return np.convolve(values, window, "same") / np.convolve(np.ones_like(values), window, "same")


def _marker(points: np.ndarray) -> str:
    """Return a dot marker if there are few points, so that a single point is visible."""
    return "o" if len(points) <= 30 else ""
