"""The page of stick figures, and its script in a browser, if Chromium is installed."""

import base64
import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from narrows.modalities.motion.figure import StickFigure
from narrows.modalities.motion.player import StickFigures
from narrows.modalities.motion.projection import View, project
from narrows.modalities.motion.scene import scene_of
from narrows.report.page import Page, Section, write_page

CHROMIUM = shutil.which("chromium")
browser = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
BEGIN = """<script>
addEventListener("load", () => {
const block = document.querySelector("figure.sticks"), canvases = [...block.querySelectorAll("canvas")];
const [canvas, other] = canvases, slider = block.querySelector("input"), button = block.querySelector("button");
const say = (...told) => document.title = JSON.stringify(told);
const pictures = () => canvases.map(one => one.toDataURL());
const changed = before => pictures().map((picture, index) => picture !== before[index]);
"""


def walker(name: str, frames: int, up: int = 1) -> StickFigure:
    """A pole with two legs that moves along an axis."""
    positions = np.random.default_rng(0).normal(size=(1, 4, 3)) * 0.2 + np.arange(frames)[:, None, None] * [0, 0, 0.01]
    positions[:, 1, up] += 1
    return StickFigure(name, positions, [(0, 1), (0, 2), (0, 3)], (2,))


@pytest.fixture
def page(tmp_path: Path) -> Path:
    rows = [[walker("one", 90), walker("two <b>'\"&", 30)], [walker("still", 1)]]
    block = StickFigures("Walkers <i>.", rows, 60)
    write_page(tmp_path / "page.html", Page("Walkers", sections=[Section("Walkers", blocks=[block])]))
    return tmp_path / "page.html"


def run(page: Path, script: str) -> list[object]:
    """Run a script after the page's own ones, and return what it says."""
    html = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    page.write_text(html.replace("</body>", BEGIN + script + "});</script></body>"))
    (title,) = re.findall("<title>(.*)</title>", dumped(page)[0])
    return json.loads(unescape(title))


def dumped(page: Path) -> tuple[str, str]:
    """The page after 2 s of the browser's own time, and what the browser says of it."""
    assert CHROMIUM is not None
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", "--enable-logging=stderr"]
    command = [CHROMIUM, *options, "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout, done.stderr


def test_the_page_escapes_names_and_allows_its_script(page: Path) -> None:
    html = page.read_text()
    assert "<b>" not in html
    assert html.count("two &lt;b&gt;&#39;&#34;&amp;") == 5
    assert "Walkers &lt;i&gt;." in html
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', html)
    assert len(re.findall(r"'sha256-[\w+/=]+'", policy)) == html.count("<script>") == 1


def test_without_scripts_a_page_has_poses_instead_of_controls(page: Path) -> None:
    html = page.read_text()
    assert html.count('<svg class="poses"') == 3
    assert html.count('<path class="marked"') == 5 + 5 + 1
    assert html.count("<button") == html.count('type="range"') == 1  # a single frame needs none


def test_stored_positions_are_those_of_the_scene() -> None:
    row = [walker("one", 90)]
    (scene,) = StickFigures("Walkers.", [row], 60).scenes
    expected = scene_of(row, 60, "y").actors[0]
    (cell,) = scene.cells
    levels = np.frombuffer(base64.b64decode(cell.data), "<i2").reshape(45, 5, 3)
    np.testing.assert_allclose(levels[:, :4] * cell.scale, expected.points, atol=cell.scale / 2 + 1e-12)
    np.testing.assert_allclose(levels[:, 4] * cell.scale, expected.targets, atol=cell.scale / 2 + 1e-12)
    assert len(cell.data) == pytest.approx(45 * 5 * 3 * 2 * 4 / 3, abs=3)


def test_rows_and_the_rate_are_checked() -> None:
    for rows in ([], [[]]):
        with pytest.raises(ValueError, match="at least one row"):
            StickFigures("None.", rows, 30)
    with pytest.raises(ValueError, match="must be positive"):
        StickFigures("Still.", [[walker("one", 1)]], 0)


@browser
def test_the_browser_allows_the_script(page: Path) -> None:
    found, said = dumped(page)
    assert "Content Security Policy" not in said
    assert 'class="sticks live"' in found


@browser
def test_play_and_pause(page: Path) -> None:
    script = """
    const before = pictures();
    window.requestAnimationFrame = step => setTimeout(step, 16);  // the browser's own stands still without a screen
    button.click();
    const texts = [button.textContent];
    setTimeout(() => {
      button.click();
      texts.push(button.textContent);
      const moment = +slider.value;
      setTimeout(() => say(texts, moment, +slider.value, changed(before)), 500);
    }, 800);"""
    texts, moment, later, changed = run(page, script)
    assert texts == ["Pause", "Play"]
    assert moment == later
    assert moment == pytest.approx(0.8 * 30, abs=4)
    assert changed == [True, True, False]


@browser
def test_the_slider_moves_the_figures_of_its_row(page: Path) -> None:
    script = """
    const before = pictures(), move = to => {
      slider.value = to;
      slider.dispatchEvent(new Event("input"));
      return pictures();
    };
    const at = [14, 15, 44].map(move), told = block.querySelector("output").textContent;
    say(+slider.max, told, at[0][0] !== before[0], at[0][2] === before[2], at[1][1] === at[2][1], at[1][0] === at[2][0],
      move(0).every((picture, index) => picture === before[index]));"""
    most, told, *facts = run(page, script)
    assert (most, told) == (44, "1.47 s")
    assert facts == [True, True, True, False, True]  # the shorter figure stays in its last pose


@browser
@pytest.mark.parametrize(
    ("event", "yaw"),
    [
        ("new PointerEvent('pointermove', { pointerId: 1, buttons: 1, movementX: 60, movementY: 20 })", 0),
        ("new KeyboardEvent('keydown', { key: 'ArrowLeft' })", 35),
    ],
)
def test_dragging_one_figure_or_its_arrow_keys_turn_all(page: Path, event: str, yaw: int) -> None:
    script = f"""
    const before = pictures();
    canvas.setPointerCapture = () => {{}};
    canvas.hasPointerCapture = () => true;
    canvas.dispatchEvent({event});
    say(canvases.map(one => +one.getAttribute("aria-valuenow")), changed(before));"""
    assert run(page, script) == [[yaw] * 3, [True] * 3]


@browser
def test_a_pointer_that_only_passes_turns_nothing(page: Path) -> None:
    script = """
    const before = pictures();
    canvas.dispatchEvent(new PointerEvent("pointermove", { pointerId: 1, movementX: 60 }));
    say(changed(before));"""
    assert run(page, script) == [[False] * 3]


@browser
def test_the_script_projects_as_python_does(page: Path) -> None:
    script = """
    const camera = { ...JSON.parse(block.dataset.camera), yaw: 205, pitch: 33 };
    say([[1, 2, 3], [-4, 0.5, 0], [0, -9, 0]].map(point => window.sticks.project(point, [0.5, 1, 0.9], camera)));"""
    expected = project(np.array([[1, 2, 3], [-4, 0.5, 0], [0, -9, 0]]), np.array([0.5, 1, 0.9]), View(205, 33))
    np.testing.assert_allclose(run(page, script)[0], expected, atol=1e-12)
