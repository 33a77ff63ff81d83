"""The page of a map in a browser, if Chromium is installed: its policy lets its own scripts run, and a click plays."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from narrows.modalities.music.map import LatentMap, MapPoint, _flat
from narrows.modalities.music.midi import Notes
from narrows.modalities.music.roll import RollLayout
from narrows.report.page import Page, Section, write_page

CHROMIUM = shutil.which("chromium")
CLICK = """<script>
document.querySelectorAll("circle")[1].dispatchEvent(new MouseEvent("click", { bubbles: true }));
document.title = [".chosen button", ".chosen rect", ".playing"].map(part => document.querySelectorAll(part).length);
</script></body>"""


def notes(*starts: int) -> Notes:
    first = np.array(starts)
    return Notes(first, first + 2, first + 60, np.full(len(starts), 80))


@pytest.fixture
def page(tmp_path: Path) -> Path:
    points = [
        MapPoint(0.0, 1.0, "one, 0:00", "#102030", False, notes(0), notes()),
        MapPoint(2.0, -1.0, "two <b>, 0:05", "#203040", True, notes(1, 3), notes(2)),
    ]
    shown = LatentMap(
        "Two windows.", points, 10, 0.05, RollLayout(60, 70), [("one", "#102030"), ("two <b>", "#203040")]
    )
    write_page(tmp_path / "page.html", Page("Map", sections=[Section("Map", blocks=[shown])]))
    return tmp_path / "page.html"


def dumped(page: Path, *options: str) -> tuple[str, str]:
    """The page after its scripts have run, and what the browser says of it."""
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", *options, "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout, done.stderr


def test_the_page_allows_its_own_scripts_by_their_digests(page: Path) -> None:
    html = page.read_text()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', html)
    assert len(re.findall(r"'sha256-[\w+/=]+'", policy)) == html.count("<script>") == 2
    assert "unsafe-inline" not in policy.split("script-src")[1]
    assert "two &lt;b&gt;, 0:05" in html
    assert html.count("<circle") == 2


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_the_browser_runs_the_scripts_and_no_others(page: Path) -> None:
    _, said = dumped(page, "--enable-logging=stderr")
    assert "Content Security Policy" not in said
    page.write_text(page.read_text().replace("</body>", "<script>document.title = 'foreign'</script></body>"))
    found, said = dumped(page, "--enable-logging=stderr")
    assert "Content Security Policy" in said
    assert "<title>Map</title>" in found


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_click_draws_and_plays_a_window(page: Path) -> None:
    html = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    page.write_text(html.replace("</body>", CLICK))
    found, _ = dumped(page)
    assert "<title>2,3,1</title>" in found
    assert "two &lt;b&gt;, 0:05" in found


def test_windows_with_equal_latents_have_one_place() -> None:
    """t-SNE would divide by their standard deviation of zero, and end the process."""
    assert _flat(np.ones((5, 20))).tolist() == [[1.0, 1.0]] * 5
