"""A report page: sections of blocks, written as one self-contained HTML file that needs no network access.

A block is a dataclass plus a template of its lower-case name next to `templates/page.html`; a new kind of block needs
only these two. Everything is escaped except the SVG of a figure, which `figures` draws and escapes itself.
"""

from __future__ import annotations

import base64
import hashlib
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from narrows.atomic import whole_file

__all__ = [
    "COLUMN",
    "LABELS",
    "TEMPLATES",
    "Block",
    "Cell",
    "Figure",
    "Page",
    "Picture",
    "Section",
    "Settings",
    "Table",
    "write_page",
]

Cell = str | int | float | None

COLUMN, LABELS = 880, 112
"""Width of the page's column, and the part of it used by the row labels of a picture, in screen pixels."""

DIGIT_SPACE, POINT_SPACE = "\N{FIGURE SPACE}", "\N{PUNCTUATION SPACE}"

TEMPLATES = Environment(
    loader=PackageLoader("narrows.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


class Block:
    """Base class of the blocks of a section.

    Attributes:
        scripts: files in `templates/` with the scripts of the block; a page has each of them once.
    """

    scripts: ClassVar[tuple[str, ...]] = ()

    @property
    def template(self) -> str:
        """File name of the template in `templates/` that renders the block, as `block`."""
        return f"{type(self).__name__.lower()}.html"


@dataclass(frozen=True)
class Figure(Block):
    """A drawing.

    Args:
        caption: caption of the drawing.
        svg: one SVG element, or several that the page lays out as panels; trusted, not escaped.
    """

    caption: str
    svg: str


@dataclass(frozen=True, eq=False)
class Picture(Block):
    """A picture whose pixels are shown as crisp squares.

    Args:
        caption: caption of the picture.
        pixels: uint8 [H, W], [H, W, 3] or [H, W, 4] (with an alpha channel).
        scale: integer magnification; None for the largest that keeps the picture within 256 pixels, or 1.
        row_labels: labels beside the rows of the picture, all of equal height, from top to bottom.

    Raises:
        ValueError: if the pixels have another type or shape, or the scale is below 1.
    """

    caption: str
    pixels: np.ndarray
    scale: int | None = None
    row_labels: Sequence[str] = ()

    def __post_init__(self) -> None:
        shape = self.pixels.shape
        if self.pixels.dtype != np.uint8 or not (len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4))):
            raise ValueError(
                f"A picture needs uint8 pixels [H, W], [H, W, 3] or [H, W, 4]; got {self.pixels.dtype} {list(shape)}."
            )
        if 0 in shape:
            raise ValueError(f"A picture needs at least one pixel; got {list(shape)}.")
        if self.scale is not None and self.scale < 1:
            raise ValueError(f"A picture's scale must be an integer of at least 1; got {self.scale}.")

    @property
    def magnification(self) -> int:
        """Screen pixels per pixel: `scale` or its default."""
        return self.scale or max(1, 256 // max(self.pixels.shape[:2]))

    @property
    def png(self) -> str:
        """The pixels as a base64 PNG."""
        buffer = io.BytesIO()
        Image.fromarray(self.pixels).save(buffer, "PNG", optimize=True)
        return base64.b64encode(buffer.getvalue()).decode("ascii")


@dataclass(frozen=True)
class Table(Block):
    """A table; columns of numbers are aligned right.

    Args:
        caption: caption of the table.
        columns: names of the columns.
        rows: rows with one cell per column. Floats are shown with four significant digits and aligned at their decimal
            points, texts as they are, None as a dash.

    Raises:
        ValueError: if a row has more or fewer cells than there are columns.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows, start=1):
            if len(row) != len(self.columns):
                raise ValueError(
                    f"Row {number} of the table {self.caption!r} has {len(row)} cells for {len(self.columns)} columns."
                )

    @property
    def cells(self) -> list[tuple[str, ...]]:
        """The rows as text, as shown on the page."""
        return list(zip(*(_column_text(column) for column in zip(*self.rows, strict=True)), strict=True))

    @property
    def numeric(self) -> list[bool]:
        """Whether each column holds only numbers, texts that start with a number, and dashes."""
        columns = zip(*self.cells, strict=True) if self.rows else [()] * len(self.columns)
        return [all(re.match(r"[−+-]?\d|nan|[−-]?inf|–$", cell) for cell in column) for column in columns]


@dataclass(frozen=True)
class Settings(Block):
    """The resolved recipe, collapsed until opened.

    Args:
        yaml_text: the settings as YAML.
        caption: label of the collapsed block.
    """

    yaml_text: str
    caption: str = "Settings"


@dataclass(frozen=True)
class Section:
    """A heading with its text and blocks.

    Args:
        title: the heading, also listed in the table of contents.
        text: plain text; a blank line starts a new paragraph.
        blocks: blocks after the text.
    """

    title: str
    text: str = ""
    blocks: Sequence[Block] = ()


@dataclass(frozen=True)
class Page:
    """A whole report.

    Args:
        title: title of the report.
        subtitle: one line below the title.
        facts: headline figures by label, such as {"validation": "4.82 bits/dim"}; the first word is shown large.
        sections: the sections, in order.
    """

    title: str
    subtitle: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    sections: Sequence[Section] = ()

    @property
    def scripts(self) -> list[Script]:
        """The scripts of all blocks, the only ones that the browser runs."""
        names = dict.fromkeys(name for section in self.sections for block in section.blocks for name in block.scripts)
        return [Script(TEMPLATES.get_template(name).render()) for name in names]


class Script(NamedTuple):
    """A script of the page."""

    text: str

    @property
    def digest(self) -> str:
        """The digest by which the page's policy allows it."""
        return "sha256-" + base64.b64encode(hashlib.sha256(self.text.encode()).digest()).decode("ascii")


def write_page(path: str | Path, page: Page) -> None:
    """Write `page` to `path` as HTML, first to a temporary file, so that no incomplete page ever appears there."""
    html = TEMPLATES.get_template("page.html").render(page=page)
    with whole_file(Path(path)) as aside:
        aside.write_text(html, encoding="utf-8")


def _column_text(column: Sequence[Cell]) -> list[str]:
    """Return the cells of one column as text, with numbers padded to align their decimal points."""
    texts = [_cell_text(cell) for cell in column]
    decimals = [len(text.partition(".")[2]) for text in texts]
    numbers = [isinstance(cell, int | float) for cell in column]
    most = max((places for places, number in zip(decimals, numbers, strict=True) if number), default=0)
    return [
        text + (POINT_SPACE * (most > places == 0) + DIGIT_SPACE * (most - places)) * number
        for text, places, number in zip(texts, decimals, numbers, strict=True)
    ]


def _cell_text(cell: Cell) -> str:
    """Return a cell as text, floats with four significant digits but at most six decimals."""
    if cell is None:
        return "–"
    if isinstance(cell, str):
        return cell
    decimals = 0
    if isinstance(cell, float) and math.isfinite(cell) and cell:
        decimals = min(6, max(0, 3 - math.floor(math.log10(abs(cell)))))
    return f"{cell:,.{decimals}f}".replace("-", "−")
