"""Drawings of methods side by side: their curves over training, and the final values of their seeds.

A method's colour and line style depend on its index in the given mapping, so drawings of the same mapping agree. Lines
are labelled at their ends and rows at their starts, so that no reader depends on colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from narrows.errors import NarrowsError
from narrows.report.page import Figure
from narrows.report.svg import HUES, MUTED, canvas, limits, padded, short, thin, to_svg

__all__ = ["Curve", "Span", "apart", "method_curves", "method_dots", "over_seeds"]

Curve = Sequence[tuple[float, float]]
"""The (step, value) points of one seed."""


class Span(NamedTuple):
    """Mean and range of a method over its seeds, values [P] at steps [P]."""

    steps: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


WIDTH, HEIGHT = 640, 340
LINE, ROW = 14, 24
"""Pixels between the labels of lines, and between rows of dots."""

SOLID, DASHED = "solid", (0, (3, 1.5))


def method_curves(title: str, curves: Mapping[str, Sequence[Curve]], axis: str = "training step") -> Figure:
    """Draw a line for each method, the mean over its seeds, with a band from the lowest seed to the highest.

    Args:
        title: the quantity drawn, with its unit.
        curves: the (step, value) points of each seed of each method. If a step has several values, the last counts.
            Seeds with different steps are interpolated, and shown only where all seeds of the method have values.
        axis: label of the horizontal axis.

    Raises:
        NarrowsError: if there is no method, or more methods than distinct line styles.
    """
    styles = _styles(curves)
    finite = {
        method: [[(x, y) for x, y in seed if math.isfinite(y)] for seed in seeds] for method, seeds in curves.items()
    }
    caption = (
        f"By {axis}: the mean over each method's seeds, with its last value beside the name, and a band from the "
        "lowest seed to the highest, over the steps that all its seeds cover. The vertical axis ignores the first "
        "tenth of each curve and isolated extremes."
    ) + _left_out({method: sum(map(len, seeds)) - sum(map(len, finite[method])) for method, seeds in curves.items()})
    spans = {method: over_seeds(seeds) for method, seeds in finite.items()}
    # In order of their last values, as the labels will be.
    lines = dict(sorted(((m, s) for m, s in spans.items() if len(s.steps)), key=lambda item: item[1].mean[-1]))
    if bare := [method for method in curves if method not in lines]:
        caption += f" Without a line because their seeds have no step in common: {', '.join(bare)}."
    if not lines:
        return Figure(caption, "")

    labels = {method: f"{method} {short(span.mean[-1])}" for method, span in lines.items()}
    right = 16 + _width([*labels.values(), axis])
    drawing, axes = canvas(title, WIDTH, HEIGHT, right=right)
    steps = np.concatenate([span.steps for span in lines.values()])
    edges = [edge[len(edge) // 10 :] for span in lines.values() for edge in (span.low, span.high)]
    axes.set(xlim=padded(steps.min(), steps.max()), ylim=limits(edges))
    axes.locator_params(axis="y", nbins=7)
    for method, span in lines.items():
        colour, dashes = styles[method]
        (low_x, low_y), (high_x, high_y) = thin(span.steps, span.low), thin(span.steps, span.high)
        axes.fill([*low_x, *high_x[::-1]], [*low_y, *high_y[::-1]], color=colour, alpha=0.2, linewidth=0)
        dot = "o" if len(span.steps) == 1 else ""
        axes.plot(*thin(span.steps, span.mean), color=colour, linewidth=1.8, linestyle=dashes, marker=dot, markersize=4)

    tips = [(span.steps[-1], span.mean[-1]) for span in lines.values()]
    heights = apart(axes.transData.transform(tips)[:, 1], LINE, 30, HEIGHT - 30)
    label_left = WIDTH - right + 10
    leader = {"arrowstyle": "-", "linestyle": ":", "linewidth": 1, "shrinkA": 0, "shrinkB": 0, "relpos": (0, 0.5)}
    for (method, label), tip, height in zip(labels.items(), tips, heights, strict=True):
        colour, _ = styles[method]
        axes.annotate(
            label,
            tip,
            (label_left, height),
            textcoords="figure pixels",
            arrowprops={"color": colour, **leader},
            color=colour,
            fontsize=11,
            verticalalignment="center",
            parse_math=False,
        )
    drawing.text(label_left / WIDTH, 8.6 / HEIGHT, axis, fontsize=11, color=MUTED, parse_math=False)
    return Figure(caption, to_svg(drawing, "methods"))


def method_dots(title: str, values: Mapping[str, Sequence[float]], better: Literal["lower", "higher"]) -> Figure:
    """Draw a row for each method, the best first: a dot for each seed, a bar at the mean, and mean ± spread as text.

    Args:
        title: the quantity drawn, with its unit.
        values: one value for each seed of each method, with the methods in the same order as in other drawings.
        better: whether lower or higher means are better.

    Raises:
        NarrowsError: if there is no method, or more methods than distinct line styles.
    """
    styles = _styles(values)
    finite = {method: np.array([value for value in seeds if math.isfinite(value)]) for method, seeds in values.items()}
    caption = (
        f"The best method first ({better} is better): a dot for each seed, a bar at the mean, and the mean ± sample "
        "standard deviation over the seeds."
    ) + _left_out({method: len(seeds) - len(finite[method]) for method, seeds in values.items()})
    means = {method: seeds.mean() for method, seeds in finite.items() if len(seeds)}
    if bare := [method for method in values if method not in means]:
        caption += f" Without a row because they have no value: {', '.join(bare)}."
    if not means:
        return Figure(caption, "")

    rows = sorted(means, key=means.__getitem__, reverse=better == "higher")
    spreads = {method: _spread(finite[method]) for method in rows}
    spread_left = WIDTH - _width(spreads.values())
    left, right = 16 + _width(rows), WIDTH - spread_left + 20 + _width(short(mean) for mean in means.values())
    height = 66 + ROW * len(rows)
    drawing, axes = canvas(title, WIDTH, height, left, right)
    drawing.text(0, 1 - 28 / height, f"{better} is better", fontsize=11, color=MUTED)
    everything = np.concatenate(list(finite.values()))
    axes.set(xlim=padded(everything.min(), everything.max()), ylim=(len(rows) - 0.5, -0.5))
    axes.set_yticks(range(len(rows)), [""] * len(rows))
    for row, method in enumerate(rows):
        colour, _ = styles[method]
        seeds = finite[method]
        axes.plot(seeds, [row] * len(seeds), "o", color=colour, alpha=0.6, markersize=6, markeredgewidth=0)
        axes.plot(means[method], row, "|", color=colour, markersize=15, markeredgewidth=2.2)
        baseline = 1 - (48 + ROW * (row + 0.5)) / height
        drawing.text(0, baseline, method, fontsize=11, parse_math=False)
        mean_right = (spread_left - 4) / WIDTH
        drawing.text(mean_right, baseline, short(means[method]), fontsize=11, horizontalalignment="right")
        drawing.text(spread_left / WIDTH, baseline, spreads[method], fontsize=11)
    return Figure(caption, to_svg(drawing, "methods"))


def over_seeds(seeds: Sequence[Curve]) -> Span:
    """Return mean and range over seeds, at the steps of any seed that lie within the range of every seed.

    Values between the steps of a seed are interpolated linearly. Seeds without points are ignored.
    """
    curves = [np.array(sorted(dict(seed).items()), dtype=float).T for seed in seeds if seed]
    if not curves:
        return Span(*np.empty((4, 0)))
    steps = np.unique(np.concatenate([x for x, _ in curves]))
    steps = steps[(steps >= max(x[0] for x, _ in curves)) & (steps <= min(x[-1] for x, _ in curves))]
    values = np.stack([np.interp(steps, x, y) for x, y in curves])
    return Span(steps, values.mean(0), values.min(0), values.max(0))


def apart(wanted: Sequence[float] | np.ndarray, gap: float, low: float, high: float) -> np.ndarray:
    """Return the coordinates in [low, high], at least `gap` apart, that are nearest to those wanted in least squares.

    Args:
        wanted: coordinates in ascending order, [N]; at least one, and few enough to fit the range.
        gap: smallest distance between two coordinates.
        low: lowest coordinate.
        high: highest coordinate.
    """
    from sklearn.isotonic import isotonic_regression  # slow to import

    offsets = gap * np.arange(len(wanted))
    # With the offsets subtracted, the coordinates only have to be non-decreasing.
    return isotonic_regression(np.asarray(wanted) - offsets, y_min=low, y_max=high - offsets[-1]) + offsets


def _styles(methods: Mapping[str, object]) -> dict[str, tuple[str, object]]:
    """Return the colour and line style of each method, by its index."""
    if not 1 <= len(methods) <= len(HUES):
        raise NarrowsError(
            f"A drawing shows 1 to {len(HUES)} methods; got {len(methods)}: split them into several comparisons."
        )
    looks = [(hue, SOLID if place < len(HUES) // 2 else DASHED) for place, hue in enumerate(HUES)]
    return dict(zip(methods, looks, strict=False))


def _left_out(counts: Mapping[str, int]) -> str:
    """Return the sentence of a caption about values that are not finite, or "" if there are none."""
    named = ", ".join(f"{method} ({count})" for method, count in counts.items() if count)
    return f" Values left out because they are not finite: {named}." if named else ""


def _spread(seeds: np.ndarray) -> str:
    """Return the sample standard deviation in two digits, or "" for fewer than two seeds."""
    if len(seeds) < 2:
        return ""
    return f"± {np.format_float_positional(seeds.std(ddof=1), 2, fractional=False, trim='-')}"


def _width(texts: Iterable[str]) -> int:
    """Return a width in pixels that fits any of the texts at font size 11, in the widest of the page's fonts."""
    return math.ceil(6.6 * max(map(len, texts)))
