"""The report shows imagined frames where there is a prior, with figures by step once they are measured."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from narrows.modalities.video.clips import VideoClips
from narrows.modalities.video.evaluate import FILE, fingerprints
from narrows.modalities.video.imagination import Imagined, imagined
from narrows.modalities.video.report import imagination_section
from narrows.pretrained import load
from narrows.report.page import Page, write_page
from narrows.training.run import RunFolder
from tests.modalities.video.conftest import NAMES, SIZE


def clips_of(length: int, channels: int) -> VideoClips:
    frames = np.random.default_rng(0).integers(256, size=(length, SIZE, SIZE, 3), dtype=np.uint8)
    nothing = np.zeros(1, int)
    features = np.zeros((length, channels), np.float32)
    return VideoClips(frames, np.array([0, length]), ["a"], nothing - 1, [], 2, nothing, nothing, 1, features)


def page_of(run: Path, outputs: Path) -> str:
    """The section of a run whose outputs are in another folder, given training clips."""
    model = load(run)
    clips = clips_of(9, model.spec.channels)
    (section,) = imagination_section(RunFolder(run, outputs), model, clips, "train")
    write_page(outputs / "page.html", Page("a", sections=[section]))
    return (outputs / "page.html").read_text()


def test_imagined_frames_are_shown_by_action(run: Path, tmp_path: Path) -> None:
    model = load(run)
    text = page_of(run, tmp_path)
    for name in NAMES if model.spec.channels else ["unknown actions"]:
        assert name in text
    assert "bits per code" not in text
    assert "6 frames of a clip of the train split are given" in text


def test_each_row_is_imagined_under_the_action_of_its_name(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, np.ndarray]] = []

    def kept(model: object, prior: object, start: object, lists: dict[str, np.ndarray], *others: Any) -> Imagined:
        asked.append(lists)
        return imagined(model, prior, start, lists, *others)  # type: ignore[arg-type]

    monkeypatch.setattr("narrows.modalities.video.report.imagined", kept)
    page_of(run, tmp_path)
    (lists,) = asked
    channels = load(run).spec.channels
    assert list(lists) == (list(NAMES) if channels else ["unknown actions"])
    for number, features in enumerate(lists.values()):
        np.testing.assert_array_equal(features, np.tile(np.eye(3)[number, :channels], (10, 1)))


def test_figures_are_shown_if_they_are_of_this_model_and_prior(run: Path, tmp_path: Path) -> None:
    steps = {f"{name}_psnr": [20.0, 10.0] for name in ("imagined", "repeated")}
    content = {
        "split": "test",
        "fingerprints": fingerprints(RunFolder(run)),
        "streams": 4,
        "given": 6,
        "guidance": 0,
        "bits": {"future_bits_per_code": 3.25},
        "steps": steps,
        "spans": {},
    }
    (tmp_path / FILE).write_text(json.dumps(content))
    text = page_of(run, tmp_path)
    assert "means over 4 parts of clips of the test split" in text
    assert "Bits of a code of futures in the test split" in text
    assert "3.25" in text
    assert "PSNR to the real future" in text
    for part in ("model", "prior"):
        other = content | {"fingerprints": fingerprints(RunFolder(run)) | {part: "0" * 64}}
        (tmp_path / FILE).write_text(json.dumps(other))
        assert "means over" not in page_of(run, tmp_path)


def test_there_is_no_section_without_a_prior_or_long_clips(run: Path) -> None:
    model = load(run)
    assert list(imagination_section(RunFolder(run), model, clips_of(5, model.spec.channels), "test")) == []
    model.prior = None
    assert list(imagination_section(RunFolder(run), model, clips_of(9, model.spec.channels), "test")) == []
