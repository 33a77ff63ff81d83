from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from narrows.report import (
    Block,
    Page,
    Picture,
    Section,
    Settings,
    Table,
    bits_bar,
    codebook_use,
    learning_curves,
    write_page,
)
from narrows.report.page import Cell

VOID = {"meta", "img"}
NASTY = "<script>alert('x')</script> & \"quoted\""


class Reader(HTMLParser):
    """Checks that every element is closed where it was opened, and keeps tags, attributes and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, name: str) -> list[str]:
        return [value or "" for key, value in self.attributes if key == name]


def full_page() -> Page:
    rows = [{"step": step, "split": "train", "loss": 1 / step, "perplexity": step} for step in range(1, 900)]
    return Page(
        "A run",
        "with everything",
        {"validation": "4.82 bits/dim"},
        [
            Section("First", "One.\n\nTwo.", [learning_curves(rows), bits_bar({"uniform": (1.0, 3.0)})]),
            Section("Second", blocks=[codebook_use(np.arange(64).reshape(2, 32)), Settings("seed: 0\n")]),
            Section("Third", blocks=[Table("t", ["a", "b"], [["x", 1.5]]), Picture("p", np.eye(8, dtype=np.uint8))]),
        ],
    )


def written(page: Page, folder: Path) -> str:
    write_page(folder / "report.html", page)
    return (folder / "report.html").read_text("utf-8")


def test_the_page_is_well_formed_and_refers_to_nothing_outside(tmp_path: Path) -> None:
    html = written(full_page(), tmp_path)
    reader = Reader(html)
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", html)
    assert not {"script", "link", "iframe", "object"} & set(reader.tags)
    assert all(source.startswith("data:image/png;base64,") for source in reader.all("src"))
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_every_inner_reference_has_exactly_one_target(tmp_path: Path) -> None:
    html = written(full_page(), tmp_path)
    reader = Reader(html)
    identifiers = reader.all("id")
    references = {link[1:] for link in reader.all("href")} | set(re.findall(r"url\(#(\w+)\)", html))
    assert len(references) > 3
    assert len(identifiers) == len(set(identifiers))
    assert references <= set(identifiers)


def test_everything_given_is_escaped(tmp_path: Path) -> None:
    pixels = np.zeros((2, 2), np.uint8)
    page = Page(
        NASTY,
        NASTY,
        {NASTY: NASTY},
        [
            Section(
                NASTY,
                NASTY,
                [
                    Table(NASTY, [NASTY], [[NASTY]]),
                    Settings(NASTY),
                    Picture(NASTY, pixels, row_labels=[NASTY]),
                    bits_bar({NASTY: (1, 2)}, NASTY),
                    learning_curves([{"step": 1, NASTY: 3.0, "split": NASTY}]),
                ],
            )
        ],
    )
    reader = Reader(written(page, tmp_path))
    assert "script" not in reader.tags
    # Title twice, subtitle, fact 2, contents, heading, text; table 3, settings, picture 2, bar 2, curves 2.
    assert reader.text.count(NASTY) == 18
    assert NASTY in reader.all("alt")


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (5, 7, 4)])
def test_the_picture_in_the_page_has_exactly_the_pixels_given(shape: tuple[int, ...], tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    reader = Reader(written(Page("t", sections=[Section("s", blocks=[Picture("p", pixels, scale=3)])]), tmp_path))
    (source,) = reader.all("src")
    image = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))
    np.testing.assert_array_equal(np.asarray(image), pixels)
    assert (reader.all("width")[-1], reader.all("height")[-1]) == ("21", "15")


@pytest.mark.parametrize(("side", "factor"), [(8, 32), (28, 9), (64, 4), (200, 1), (512, 1)])
def test_small_pictures_are_magnified_by_whole_factors_and_large_ones_are_not(side: int, factor: int) -> None:
    assert Picture("p", np.zeros((side, side), np.uint8)).magnification == factor


@pytest.mark.parametrize(
    "pixels", [np.zeros((4, 4)), np.zeros((4, 4, 2), np.uint8), np.zeros(4, np.uint8), np.zeros((0, 4), np.uint8)]
)
def test_a_picture_of_anything_but_bytes_is_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"picture (takes|needs)"):
        Picture("p", pixels)


def test_a_magnification_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="scale must be an integer"):
        Picture("p", np.zeros((4, 4), np.uint8), scale=0)


def test_numbers_have_four_digits_and_their_points_line_up() -> None:
    rows: list[list[Cell]] = [
        ["a", 12.5, 1_000_000, "4.82 ± 0.01", None],
        ["b", -0.0371, 7, "−3", 2],
        ["c", float("nan"), 0, "–", 0.5],
    ]
    table = Table("t", ["name", "float", "int", "text", "mixed"], rows)
    point, digit = "\u2008", "\u2007"
    assert [row[1] for row in table.cells] == ["12.50" + 3 * digit, "−0.03710", "nan" + point + 5 * digit]
    assert [row[2] for row in table.cells] == ["1,000,000", "7", "0"]
    assert [row[3] for row in table.cells] == ["4.82 ± 0.01", "−3", "–"]
    assert [row[4] for row in table.cells] == ["–", "2" + point + 4 * digit, "0.5000"]
    assert table.numeric == [False, True, True, True, True]


def test_a_table_without_rows_is_shown(tmp_path: Path) -> None:
    assert "only a head" in written(
        Page("t", sections=[Section("s", blocks=[Table("c", ["only a head"], [])])]), tmp_path
    )


def test_a_row_of_the_wrong_length_is_named() -> None:
    with pytest.raises(ValueError, match="Row 2 of the table 'costs' has 1 cells for 2 columns"):
        Table("costs", ["a", "b"], [[1, 2], [3]])


def test_a_page_that_cannot_be_rendered_leaves_the_one_before(tmp_path: Path) -> None:
    class Unknown(Block):
        pass

    before = written(full_page(), tmp_path)
    with pytest.raises(Exception, match=r"unknown\.html"):
        write_page(tmp_path / "report.html", Page("t", sections=[Section("s", blocks=[Unknown()])]))
    assert (tmp_path / "report.html").read_text("utf-8") == before
    assert len(list(tmp_path.iterdir())) == 1
