"""Small charts as inline SVG, with the page's fonts, its colours in light and dark mode, and text as text.

Colours are drawn as placeholders and replaced by the page's CSS variables. Parts that an HTML page does not need
(namespaces, metadata, fonts, empty groups, decimals below a tenth of a pixel) are removed, which leaves a few
kilobytes. `standalone` adds the parts that a separate file needs.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator
from itertools import pairwise
from xml.etree import ElementTree

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import EngFormatter, Formatter, MaxNLocator

from narrows.report.page import TEMPLATES, Figure

__all__ = [
    "ACCENT",
    "HUES",
    "MUTED",
    "RULE",
    "SECOND",
    "canvas",
    "chart",
    "limits",
    "padded",
    "short",
    "standalone",
    "thin",
    "to_svg",
]

MUTED, RULE, ACCENT, SECOND = "#010101", "#020202", "#030303", "#040404"
"""Placeholders for the page's muted text, its rules and its two colours."""

HUES = tuple("#" + 3 * f"{number:02x}" for number in range(5, 15))
"""Placeholders for the page's ten method colours; the first five differ most from each other, as do the last five."""

_PAGE_COLOURS = {MUTED: "var(--muted)", RULE: "var(--rule)", ACCENT: "var(--accent)", SECOND: "var(--second)"}
_PAGE_COLOURS |= {hue: f"var(--method-{number})" for number, hue in enumerate(HUES, start=1)}

_GAP = 24
"""Pixels between and around the panels of a standalone file."""


def canvas(title: str, width: int, height: int, left: int = 44, right: int = 14) -> tuple[Drawing, Axes]:
    """Return an empty chart with its title above it.

    Args:
        title: the quantity shown, with its unit.
        width: width of the drawing in pixels.
        height: height of the drawing in pixels, 66 of which are for the head and the ticks of the horizontal axis.
        left: pixels left of the axes.
        right: pixels right of the axes.
    """
    drawing = Drawing(figsize=(width / 72, height / 72), dpi=72)
    drawing.patch.set_visible(False)
    axes = drawing.add_axes((left / width, 22 / height, 1 - (left + right) / width, 1 - 66 / height))
    axes.patch.set_visible(False)
    axes.spines[:].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color=RULE, linewidth=1)
    axes.tick_params(which="both", length=0, pad=5, labelsize=11, labelcolor=MUTED)
    for axis, most in ((axes.xaxis, 5), (axes.yaxis, 4)):
        axis.set_major_locator(MaxNLocator(most, steps=(1, 2, 2.5, 5, 10)))
        axis.set_major_formatter(_Ticks())
    # A metric's key may contain a dollar sign, so no text is parsed as mathematics.
    drawing.text(0, 1 - 12 / height, title, fontsize=12, fontweight="bold", parse_math=False)
    return drawing, axes


def chart(title: str, notes: list[tuple[str, str]], alone: bool) -> tuple[Drawing, Axes]:
    """Return an empty chart with its title above it and, below the title, notes side by side as its legend.

    Args:
        title: the quantity on the vertical axis, with its unit.
        notes: texts and their colours.
        alone: whether it is the only chart of its figure, and therefore larger, rather than one of several panels.
    """
    width, height = (440, 230) if alone else (280, 180)
    drawing, axes = canvas(title, width, height)
    for place, (text, colour) in enumerate(notes):
        drawing.text(100 * place / width, 1 - 28 / height, text, fontsize=11, color=colour, parse_math=False)
    return drawing, axes


def limits(curves: list[np.ndarray]) -> tuple[float, float]:
    """Return the axis limits for curves, without extremes that would flatten the rest, such as a spike at the start.

    They cover all values, or only each curve's middle 90% and its last value if that range is less than a third as
    wide.
    """
    full = np.concatenate(curves)
    core = np.concatenate([[*np.quantile(curve, (0.05, 0.95)), curve[-1]] for curve in curves])
    shown = full if np.ptp(full) <= 3 * np.ptp(core) else core
    return padded(shown.min(), shown.max())


def padded(low: float, high: float) -> tuple[float, float]:
    """Return axis limits a little wider than the values, or wide enough for a single value."""
    constant = high - low <= 1e-6 * max(abs(low), abs(high))
    margin = 0.04 * (abs(high) if constant else high - low) or 1.0
    return low - margin, high + margin


def short(value: float) -> str:
    """Return a number in four digits: 4.820, 410.3, 12.35k."""
    text = EngFormatter(sep="")(value) if abs(value) >= 1000 else f"{value:#.4g}"
    return text.replace("-", "−")


def thin(x: np.ndarray, y: np.ndarray, most: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Return at most `most` points of a curve x, y [P] that draw the same picture.

    They are the first, last, lowest and highest points of each of `most` / 4 equal runs of points (M4; Jugel et al.
    2014, "M4: a visualization-oriented time series data aggregation").
    """
    if len(x) <= most:
        return x, y
    edges = np.linspace(0, len(x), most // 4 + 1).astype(int)
    kept = {
        index
        for start, end in pairwise(edges)
        for index in (start, start + y[start:end].argmin(), start + y[start:end].argmax(), end - 1)
    }
    order = sorted(kept)
    return x[order], y[order]


def to_svg(drawing: Drawing, style: str = "") -> str:
    """Return the drawing as an SVG element for a page, with `style` as its class in the page's style sheet."""
    buffer = io.StringIO()
    # A fixed salt for the identifiers, so that the same drawing gives the same bytes.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "narrows"}):
        drawing.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = buffer.getvalue()
    # The identifiers of clips and markers must differ between the drawings of a page.
    prefix = "s" + hashlib.sha256(text.encode()).hexdigest()[:8]
    root = ElementTree.fromstring(text)
    root.remove(root[0])  # matplotlib's style sheet, which would also affect the rest of the page
    root.attrib = {"viewBox": root.attrib["viewBox"]} | ({"class": style} if style else {})
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {name.rpartition("}")[2]: _tidy(value, prefix) for name, value in element.items()}
        element.tail = None
        if element.tag != "text":
            element.text = None
        if element.tag == "g":
            element.attrib.pop("id", None)
        if element.get("transform", "").startswith("rotate(-0"):
            del element.attrib["transform"]
    root[:] = list(_unwrapped(root))
    return ElementTree.tostring(root, encoding="unicode")


def standalone(figure: Figure) -> str:
    """Return the text of an SVG file with the drawings of a figure, in light colours on white, in rows of three.

    Raises:
        ValueError: if the figure holds no drawing.
    """
    panels = list(ElementTree.fromstring(f"<div>{figure.svg}</div>"))
    if not panels:
        raise ValueError(f"There is no drawing to write to a file: {figure.caption}")
    root = ElementTree.Element("svg", xmlns="http://www.w3.org/2000/svg", role="img")
    ElementTree.SubElement(root, "title").text = figure.caption
    ElementTree.SubElement(
        root, "style"
    ).text = "text { font-variant-numeric: tabular-nums } .name { font-weight: 600; }"
    ElementTree.SubElement(root, "rect", width="100%", height="100%", fill="#ffffff")
    look = {"font-family": "system-ui, sans-serif", "font-size": "14", "stroke-linejoin": "round", "fill": "var(--ink)"}
    body = ElementTree.SubElement(root, "g", look, style="font-variant-numeric: tabular-nums")
    right = bottom = _GAP
    for start in range(0, len(panels), 3):
        left, top = _GAP, bottom
        for panel in panels[start : start + 3]:
            width, height = _size(panel)
            place = {"x": left, "y": top, "width": width, "height": height, "overflow": "visible"}
            panel.attrib |= {name: str(value) for name, value in place.items()}
            body.append(panel)
            left += width + _GAP
            right, bottom = max(right, left), max(bottom, top + height + _GAP)
    root.attrib |= {"width": str(right), "height": str(bottom), "viewBox": f"0 0 {right} {bottom}"}
    sheet = TEMPLATES.get_template("page.css").render()
    light = dict(re.findall(r"--([\w-]+): (#\w+);", sheet.partition("@media")[0]))
    return re.sub(r"var\(--([\w-]+)\)", lambda use: light[use[1]], ElementTree.tostring(root, "unicode")) + "\n"


def _size(panel: ElementTree.Element) -> tuple[int, int]:
    """Return the width and height of an SVG element; one of variable width gets the width of the page's column."""
    if "viewBox" in panel.attrib:
        width, height = map(float, panel.attrib["viewBox"].split()[2:])
        return round(width), round(height)
    return 672, int(panel.attrib["height"])


class _Ticks(Formatter):
    """Formatter of short numbers, all with as many decimals as their spacing needs."""

    def __call__(self, value: float, position: int | None = None) -> str:
        return self.format_ticks([value])[0]

    def format_ticks(self, values: list[float]) -> list[str]:
        largest = np.abs(values).max(initial=0)
        if largest >= 1000:
            texts = [EngFormatter(sep="")(value) for value in values]
        elif largest < 1e-3 or len(values) < 2:
            texts = [f"{value:.3g}" for value in values]
        else:
            spacing = np.format_float_positional(values[1] - values[0], 2, fractional=False, trim="-")
            texts = [f"{value:.{len(spacing.partition('.')[2])}f}" for value in values]
        return [text.replace("-", "−") for text in texts]


def _tidy(value: str, prefix: str) -> str:
    """Return an attribute with the page's colours, without font, with one decimal and prefixed identifiers."""
    value = re.sub(r"(^|#)([mp][0-9a-f]{10})\b", rf"\1{prefix}\2", value)
    value = re.sub(r"font-family:[^;]*;? ?", "", value)
    value = re.sub(r"\d+\.\d{2,}", lambda match: f"{float(match[0]):.1f}", value)
    for stand_in, colour in _PAGE_COLOURS.items():
        value = value.replace(stand_in, colour)
    return " ".join(value.split())


def _unwrapped(element: ElementTree.Element) -> Iterator[ElementTree.Element]:
    """Yield the children of an element, with every group without attributes replaced by its own children."""
    for child in element:
        inner = list(_unwrapped(child))
        if child.tag == "g" and not child.attrib:
            yield from inner
        else:
            child[:] = inner
            yield child
