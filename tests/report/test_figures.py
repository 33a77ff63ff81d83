from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from narrows.report import bits_bar, codebook_use, layer_bars, learning_curves
from narrows.report.svg import thin


def panels(svg: str) -> list[list[str]]:
    """The texts of each SVG element in turn."""
    root = ElementTree.fromstring(f"<div>{svg}</div>")
    return [["".join(text.itertext()) for text in panel.iter("text")] for panel in root]


def titles(rows: list[dict[str, Any]]) -> list[str]:
    """The heading of each panel: the only text in bold."""
    return re.findall(r"font-weight[^>]*>([^<]*)<", learning_curves(rows).svg)


def test_a_panel_per_quantity_with_known_ones_first_and_none_for_the_clock() -> None:
    row = {"step": 1, "zeta": 1.0, "loss": 2.0, "seconds": 3.0, "images_per_second": 4.0, "waiting": 0.1, "done": "yes"}
    rows = [row, {"step": 1, "split": "validation", "bits_per_dim": 5.0, "loss": 3.0}]
    assert titles(rows) == ["Bits per dimension", "Loss", "zeta"]
    assert {"train 2.000", "validation 3.000"} <= set(panels(learning_curves(rows).svg)[1])


def test_no_rows_give_a_sentence_and_no_drawing() -> None:
    assert learning_curves([]).svg == ""
    assert learning_curves([]).caption.startswith("No curve")


def test_values_that_are_not_finite_are_left_out_and_counted() -> None:
    rows = [{"step": step, "loss": value} for step, value in enumerate([3.0, float("nan"), 2.0, float("inf")])]
    figure = learning_curves(rows)
    assert "loss (2)" in figure.caption
    assert "train 2.000" in panels(figure.svg)[0]
    nothing = learning_curves([{"step": 1, "loss": float("nan")}])
    assert nothing.svg == ""
    assert "loss (1)" in nothing.caption


def test_of_two_rows_for_one_step_the_last_counts() -> None:
    rows = [{"step": step, "split": "validation", "loss": value} for step, value in [(1, 9.0), (2, 5.0), (1, 7.0)]]
    (texts,) = panels(learning_curves([*rows, {"step": 2, "split": "validation", "loss": 4.0}]).svg)
    assert "validation 4.000" in texts
    assert max(float(text) for text in texts if re.fullmatch(r"[\d.]+", text)) <= 7.5


@pytest.mark.parametrize("value", [0.0, 4.82, -3.0, 1e6, 2e-5])
def test_one_row_is_drawn_as_a_dot(value: float) -> None:
    svg = learning_curves([{"step": 100, "loss": value}]).svg
    assert "<use" in svg
    assert "nan" not in svg.lower()


def test_the_spike_of_the_first_steps_does_not_flatten_the_rest() -> None:
    rows = [{"step": step, "loss": 1e6 if step < 5 else 4 + 1 / step} for step in range(1, 1000)]
    (texts,) = panels(learning_curves(rows).svg)
    heights = [float(text) for text in texts if re.fullmatch(r"[\d.]+", text) and float(text) < 900]
    assert not any("M" in text for text in texts)
    assert [height for height in heights if 0 < height < 200]
    assert max(height for height in heights if height < 200) < 5


def test_a_constant_is_drawn_amid_readable_ticks() -> None:
    (texts,) = panels(learning_curves([{"step": step, "loss": 0.9} for step in range(1, 500)]).svg)
    heights = [text for text in texts if re.fullmatch(r"[01]\.\d+", text)]
    assert len(set(heights)) == len(heights) > 1


def test_keys_are_not_read_as_markup_or_mathematics() -> None:
    key = "a$b$<i>&"
    assert panels(learning_curves([{"step": 1, key: 1.0}]).svg)[0].count(key) == 1


def test_a_drawing_is_small_and_the_same_every_time() -> None:
    generator = np.random.default_rng(0)
    rows = [{"step": step, "loss": value} for step, value in enumerate(generator.normal(size=20_000))]
    svg = learning_curves(rows).svg
    assert svg == learning_curves(rows).svg
    assert len(svg) < 10_000
    assert "<style" not in svg
    assert "font-family" not in svg


@pytest.mark.parametrize("count", [0, 1, 399, 400, 401, 12_345])
def test_thinning_keeps_the_ends_and_the_extremes(count: int) -> None:
    x = np.arange(count)
    y = np.random.default_rng(count).normal(size=count)
    kept_x, kept_y = thin(x, y)
    assert len(kept_x) == len(kept_y) <= 400
    assert (np.diff(kept_x) > 0).all()
    np.testing.assert_array_equal(kept_y, y[kept_x])
    if count:
        assert (kept_x[0], kept_x[-1]) == (0, count - 1)
        assert (kept_y.min(), kept_y.max()) == (y.min(), y.max())


def test_the_perplexity_stated_is_the_exponential_of_the_entropy() -> None:
    counts = torch.randint(0, 50, (3, 64), generator=torch.Generator().manual_seed(0))
    entropies = torch.distributions.Categorical(probs=counts.double()).entropy()
    for texts, entropy, used in zip(panels(codebook_use(counts).svg), entropies, (counts > 0).sum(1), strict=True):
        assert f"perplexity {entropy.exp():.2f} of 64; {used} in use" in texts


def test_the_use_of_codebooks_is_stated_panel_by_panel() -> None:
    one = panels(codebook_use(torch.tensor([3, 3, 0, 3])).svg)
    assert "perplexity 3.000 of 4; 3 in use" in one[0]
    two = panels(codebook_use(np.array([[8, 0, 0, 0], [1, 1, 1, 1]])).svg)
    assert "perplexity 1.000 of 4; 1 in use" in two[0]
    assert "perplexity 4.000 of 4; 4 in use" in two[1]
    assert len(codebook_use(np.arange(16_384)).svg) < 12_000


@pytest.mark.parametrize("counts", [[0, 0], [1, -1, 2], [1, float("nan")], [[1, 2], [0, 0]]])
def test_counts_that_are_none_are_refused(counts: list[Any]) -> None:
    with pytest.raises(ValueError, match="use of a codebook"):
        codebook_use(np.array(counts, dtype=float))


def test_the_bars_are_as_long_as_their_bits() -> None:
    svg = bits_bar({"uniform": (1.0, 3.0), "learned": (0.5, 3.0)}).svg
    widths = [float(width) for width in re.findall(r'width="([\d.]+)%"', svg)]
    assert widths == [25.0, 75.0, 12.5, 75.0]
    assert panels(svg)[0][2:] == [
        "uniform",
        "1.000 + 3.000 = 4.000 bits/dim",
        "learned",
        "0.500 + 3.000 = 3.500 bits/dim",
    ]


def test_a_negative_part_is_stated_without_a_length() -> None:
    svg = bits_bar({"density": (2.0, -0.5)}).svg
    assert re.findall(r'width="([\d.-]+)%"', svg) == ["100.0", "0.0"]
    assert "2.000 + -0.500 = 1.500 bits/dim" in panels(svg)[0]


@pytest.mark.parametrize("bars", [{}, {"p": (float("nan"), 3.0)}, {"p": (1.0, float("inf"))}])
def test_bars_that_cannot_be_drawn_are_refused(bars: dict[str, tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="bar"):
        bits_bar(bars)


def test_a_bar_for_every_layer_and_a_name_for_every_group() -> None:
    rates = {("1x1", 1): 0.001, ("8x8", 1): 3.0, ("8x8", 2): 20.0}
    figure = layer_bars(rates)
    (texts,) = panels(figure.svg)
    assert {"1x1", "8x8", "Rate by layer, nats"} <= set(texts)
    heights = [
        float(path.split()[8]) for path in re.findall(r'<path d="([^"]*)"[^>]*clip', figure.svg) if path.count("L") == 3
    ]
    assert len(heights) == 3
    assert heights[2] < heights[1] < heights[0]  # downwards, as SVG counts


@pytest.mark.parametrize("rates", [{}, {("1x1", 1): float("nan")}])
def test_bars_of_no_layer_or_of_no_number_are_refused(rates: dict[tuple[str, int], float]) -> None:
    with pytest.raises(ValueError, match="finite rates"):
        layer_bars(rates)
