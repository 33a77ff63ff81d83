from __future__ import annotations

import re
import statistics
from xml.etree import ElementTree

import numpy as np
import pytest

from narrows.errors import NarrowsError
from narrows.report import Figure, bits_bar, learning_curves, method_curves, method_dots, standalone
from narrows.report.methods import apart, over_seeds
from narrows.report.page import TEMPLATES

NAMES = ["vqvae", "fsq", "gumbel", "gumbel-st", "gr-mck", "reinforce", "vimco", "daps", "daps-ar", "vae"]
SVG = "{http://www.w3.org/2000/svg}"


def curves(ends: dict[str, float]) -> dict[str, list[list[tuple[float, float]]]]:
    """Three noisy seeds for each method, which rise from -200 to about its end."""
    generator = np.random.default_rng(0)
    steps = np.arange(0, 3001, 50)
    return {
        name: [
            list(zip(steps, end + (-200 - end) * np.exp(-steps / 400) + generator.normal(size=len(steps)), strict=True))
            for _ in range(3)
        ]
        for name, end in ends.items()
    }


def elements(figure: Figure, tag: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(figure.svg).iter(tag))


def texts(figure: Figure) -> list[tuple[str, float, float, str]]:
    """Every text with its place x, y and its style."""
    return [
        (text.text or "", float(text.get("x", "nan")), float(text.get("y", "nan")), text.get("style", ""))
        for text in elements(figure, "text")
    ]


def hue(style: str) -> str:
    return re.findall(r"var\(--method-\d+\)", style)[0]


def drawn(figure: Figure, paint: str) -> np.ndarray:
    """The points [P, 2] of the first path with this paint, in the units of the ticks of both axes."""
    path = next(path for path in elements(figure, "path") if paint in path.get("style", ""))
    pixels = np.array(re.findall(r"[ML] ([\d.-]+) ([\d.-]+)", path.get("d", "")), dtype=float)
    values = []
    for side, anchor in enumerate(("middle", "end")):
        ticks = [text for text in texts(figure) if f"text-anchor: {anchor}" in text[3]]
        places = [(x, y)[side] for _, x, y, _ in ticks]
        slope, offset = np.polyfit(places, [float(text.replace("−", "-")) for text, *_ in ticks], 1)
        # A vertical tick's text stands below its line, by the same for every tick.
        shift = 0.0 if side == 0 else ticks[0][2] - next(y for y in grid(figure) if abs(y - ticks[0][2]) < 9)
        values.append(slope * (pixels[:, side] + shift) + offset)
    return np.stack(values, axis=1)


def grid(figure: Figure) -> list[float]:
    """The heights of the horizontal rules."""
    rules = [path.get("d", "") for path in elements(figure, "path") if "var(--rule)" in path.get("style", "")]
    return [float(rule.split()[2]) for rule in rules]


def test_seeds_with_different_steps_are_averaged_where_all_have_values() -> None:
    steps, mean, low, high = over_seeds(
        [[(0, 0.0), (10, 10.0)], [(12, 24.0), (2, 0.0), (4, 8.0), (2, 4.0)], [(2, 12.0), (20, 120.0)]]
    )
    np.testing.assert_allclose(steps, [2, 4, 10])
    np.testing.assert_allclose(mean, 3 * steps)
    np.testing.assert_allclose(low, steps)
    np.testing.assert_allclose(high, 6 * steps)


def test_the_band_contains_every_seed_at_every_step() -> None:
    generator = np.random.default_rng(0)
    seeds = [[(x, generator.normal()) for x in np.sort(generator.uniform(0, 100, size=40))] for _ in range(4)]
    steps, _, low, high = over_seeds(seeds)
    dense = np.linspace(steps[0], steps[-1], 5001)
    values = np.stack([np.interp(dense, *np.transpose(seed)) for seed in seeds])
    assert (np.interp(dense, steps, low) <= values + 1e-12).all()
    assert (np.interp(dense, steps, high) >= values - 1e-12).all()


def test_the_line_drawn_is_the_mean_and_the_band_reaches_the_seeds() -> None:
    figure = method_curves("t", {"a": [[(0, 1.0), (50, 5.0), (100, 3.0)], [(0, 3.0), (50, 9.0), (100, 4.0)]]})
    np.testing.assert_allclose(
        drawn(figure, "fill: none; stroke: var(--method-1)"), [(0, 2), (50, 7), (100, 3.5)], 0.01, 0.1
    )
    corners = {(round(x), round(y)) for x, y in drawn(figure, "fill: var(--method-1)")}
    assert corners == {(0, 1), (50, 5), (100, 3), (100, 4), (50, 9), (0, 3)}


def test_labels_stand_in_the_order_of_the_ends_and_do_not_overlap() -> None:
    ends = {name: -90.0 - 0.01 * place for place, name in enumerate(NAMES)} | {"vqvae": -150.0}
    figure = method_curves("t", curves(ends))
    labels = {
        text.split()[0]: (x, y, float(text.split()[1].replace("−", "-")))
        for text, x, y, _ in texts(figure)
        if "−" in text and " " in text
    }
    assert set(labels) == set(NAMES)
    _, heights, values = zip(*sorted(labels.values(), key=lambda label: label[1]), strict=True)
    assert (np.diff(heights) >= 13).all()
    assert 0 < min(heights) < max(heights) < 340
    assert list(values) == sorted(values, reverse=True)
    assert len({x for x, _, _ in labels.values()}) == 1


@pytest.mark.parametrize("wanted", [[5.0], [1.0, 30.0, 60.0]])
def test_places_far_enough_apart_are_kept(wanted: list[float]) -> None:
    np.testing.assert_allclose(apart(wanted, 10, 0, 100), wanted)


def test_no_other_places_that_far_apart_are_nearer_to_those_wanted() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        wanted = np.sort(generator.uniform(-10, 60, size=5))
        found = apart(wanted, 10, 0, 50)
        assert (np.diff(found) > 10 - 1e-9).all()
        assert -1e-9 < found[0] <= found[-1] < 50 + 1e-9
        others = np.sort(generator.uniform(0, 10, size=(2000, 5)), axis=1) + 10 * np.arange(5)
        others = np.concatenate([others, found + 0.01 * (others - found)])
        assert ((found - wanted) ** 2).sum() <= ((others - wanted) ** 2).sum(1).min() + 1e-9


@pytest.mark.parametrize(("better", "order"), [("lower", ["b", "c", "a"]), ("higher", ["a", "c", "b"])])
def test_rows_stand_with_the_best_first(better: str, order: list[str]) -> None:
    figure = method_dots("t", {"a": [3.0, 9.0], "b": [1.0, 2.0], "c": [4.0]}, better)  # type: ignore[arg-type]
    names = sorted((y, text) for text, _, y, _ in texts(figure) if text in {"a", "b", "c"})
    assert [name for _, name in names] == order


def test_mean_and_sample_deviation_are_stated_and_no_deviation_of_one_seed() -> None:
    seeds = [-91.5, -90.25, -92.0]
    stated = [text for text, *_ in texts(method_dots("t", {"three": seeds, "one": [-95.125]}, "higher"))]
    assert f"−{-statistics.mean(seeds):.2f}" in stated
    assert "−95.12" in stated
    assert [text for text in stated if "±" in text] == [f"± {statistics.stdev(seeds):.2g}"]


def test_a_method_has_one_colour_in_all_drawings() -> None:
    ends = dict(zip(NAMES, np.random.default_rng(1).permutation(10) - 100.0, strict=True))
    lines = method_curves("t", curves(ends))
    dots = method_dots("t", {name: [end, end + 0.1] for name, end in ends.items()}, "higher")
    in_lines = {text.split()[0]: hue(style) for text, _, _, style in texts(lines) if "--method" in style}
    marks = [(float(use.get("y", "nan")), hue(use.get("style", ""))) for use in elements(dots, "use")]
    rows = {text: y for text, _, y, _ in texts(dots) if text in NAMES}
    in_dots = {name: {colour for height, colour in marks if abs(height - y) < 10} for name, y in rows.items()}
    assert in_lines == {name: f"var(--method-{place})" for place, name in enumerate(NAMES, start=1)}
    assert in_dots == {name: {colour} for name, colour in in_lines.items()}


def test_the_ten_colours_differ_and_stand_out_from_the_ground() -> None:
    def luminance(colour: str) -> float:
        parts = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for sheet in TEMPLATES.get_template("page.css").render().split("@media (prefers-color-scheme: dark)"):
        colours = dict(re.findall(r"--(ground|method-\d+): (#\w+);", sheet))
        ground = luminance(colours.pop("ground"))
        assert len(set(colours.values())) == len(colours) == 10
        for colour in colours.values():
            dark, light = sorted((ground, luminance(colour)))
            assert (light + 0.05) / (dark + 0.05) > 3.8


def test_what_cannot_be_drawn_is_said() -> None:
    bad = float("nan")
    figure = method_curves(
        "t", {"a": [[(0, 1.0), (1, bad), (2, 2.0)]], "b": [[(0, 1.0)], [(5, 1.0)]], "c": [[(0, bad)]]}
    )
    assert "not finite: a (1), c (1)." in figure.caption
    assert "no step in common: b, c." in figure.caption
    assert [text for text, *_ in texts(figure) if text[0] in "abc"] == ["a 2.000"]
    dots = method_dots("t", {"a": [1.0, bad, 3.0], "b": [float("inf")]}, "lower")
    assert "not finite: a (1), b (1)." in dots.caption
    assert "no value: b." in dots.caption
    assert "2.000" in [text for text, *_ in texts(dots)]
    assert method_curves("t", {"c": [[(0, bad)]]}).svg == method_dots("t", {"b": []}, "lower").svg == ""


@pytest.mark.parametrize("count", [0, 11])
def test_more_methods_than_colours_and_none_are_refused(count: int) -> None:
    with pytest.raises(NarrowsError, match=f"got {count}"):
        method_curves("t", {str(place): [[(0, 1.0)]] for place in range(count)})
    with pytest.raises(NarrowsError, match=f"got {count}"):
        method_dots("t", {str(place): [1.0] for place in range(count)}, "lower")


def test_names_are_not_read_as_markup_or_mathematics() -> None:
    name = "a$b$<i>&"
    assert f"{name} 1.000" in [text for text, *_ in texts(method_curves(name, {name: [[(3, 1.0)]]}))]
    assert [text for text, *_ in texts(method_dots(name, {name: [1.0]}, "lower"))].count(name) == 2


@pytest.mark.parametrize(
    "figure",
    [
        method_curves("t <&> t", curves(dict.fromkeys(NAMES, -90.0))),
        method_dots("t", {"a": [1.0, 2.0]}, "lower"),
        bits_bar({"uniform": (1.0, 3.0)}, caption="a < b & c"),
    ],
    ids=["curves", "dots", "bits"],
)
def test_a_file_of_its_own_is_whole(figure: Figure) -> None:
    text = standalone(figure)
    root = ElementTree.fromstring(text)
    assert {element.tag.startswith(SVG) for element in root.iter()} == {True}
    assert root.findtext(f"{SVG}title") == figure.caption
    assert root.get("viewBox") == f"0 0 {root.get('width')} {root.get('height')}"
    assert root.find(f"{SVG}rect").attrib == {"width": "100%", "height": "100%", "fill": "#ffffff"}  # type: ignore[union-attr]
    assert "var(" not in text
    assert "currentColor" not in text
    assert set(re.findall(r'(?:url\(|href=")#(\w+)', text)) <= {element.get("id") for element in root.iter()}
    words = ["".join(element.itertext()) for element in ElementTree.fromstring(figure.svg).iter("text")]
    assert ["".join(element.itertext()) for element in root.iter(f"{SVG}text")] == words


def test_panels_of_a_file_stand_in_rows_of_three_without_overlap() -> None:
    figure = learning_curves([{"step": step, "loss": 1.0, "mse": 2.0, "ssim": 3.0, "zeta": 4.0} for step in range(9)])
    root = ElementTree.fromstring(standalone(figure))
    panels = [
        [int(panel.get(key, "")) for key in ("x", "y", "width", "height")]
        for panel in root.iter(f"{SVG}svg")
        if panel is not root
    ]
    (x, y, width, height) = np.array(panels).T
    assert (y[:3] == y[0]).all()
    assert (x[:2] + width[:2] < x[1:3]).all()
    assert (x[3], y[3]) == (x[0], y[0] + height[0] + x[0])
    assert int(root.get("width", "")) == (x + width).max() + x[0]
    assert int(root.get("height", "")) == (y + height).max() + y[0]


def test_a_figure_without_a_drawing_makes_no_file() -> None:
    with pytest.raises(ValueError, match="No curve has been logged"):
        standalone(learning_curves([]))
