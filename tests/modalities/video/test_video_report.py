"""The report shows imagined frames where there is a prior, with figures by step once they are measured."""

import json
from pathlib import Path

import numpy as np

from narrows.modalities.video.clips import VideoClips
from narrows.modalities.video.evaluate import FILE
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


def test_imagined_frames_are_shown_by_action(run: Path, tmp_path: Path) -> None:
    model = load(run)
    clips = clips_of(9, model.spec.channels)
    (section,) = imagination_section(RunFolder(tmp_path), model, clips)
    write_page(tmp_path / "page.html", Page("a", sections=[section]))
    text = (tmp_path / "page.html").read_text()
    for name in NAMES if model.spec.channels else ["unknown actions"]:
        assert name in text
    assert "bits per code" not in text
    steps = {f"{name}_psnr": [20.0, 10.0] for name in ("imagined", "repeated")}
    content = {"streams": 4, "given": 6, "bits": {"future_bits_per_code": 3.25}, "steps": steps, "spans": {}}
    (tmp_path / FILE).write_text(json.dumps(content))
    (section,) = imagination_section(RunFolder(tmp_path), model, clips)
    write_page(tmp_path / "page.html", Page("a", sections=[section]))
    text = (tmp_path / "page.html").read_text()
    assert "means over 4 parts" in text
    assert "3.25" in text
    assert "PSNR to the real future" in text


def test_there_is_no_section_without_a_prior_or_long_clips(run: Path, tmp_path: Path) -> None:
    model = load(run)
    assert list(imagination_section(RunFolder(tmp_path), model, clips_of(5, model.spec.channels))) == []
    model.prior = None
    assert list(imagination_section(RunFolder(tmp_path), model, clips_of(9, model.spec.channels))) == []
