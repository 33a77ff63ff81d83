import json
from pathlib import Path

import numpy as np
import pytest

from narrows.errors import NarrowsError
from narrows.modalities.sound.phoneme_picture import CELL, LANE, ROW, code_phoneme_map
from narrows.modalities.sound.phonemes import phonemes_file
from narrows.modalities.sound.report import phonemes_section
from narrows.report.page import COLUMN, LABELS
from narrows.training.run import RunFolder

NAMES = ["_", "a", "b", "c"]
COUNTS = np.array(
    [
        [0, 1, 3, 0],  # b, a quarter a
        [0, 0, 0, 0],  # never used
        [2, 0, 2, 0],  # _ and b alike: it stands for the first
        [0, 0, 8, 0],  # b alone
        [0, 1, 0, 0],  # a alone
    ]
)


def opacities(picture, width):
    """The opacity of each cell, [rows, columns], each cell being of one colour."""
    height, total, _ = picture.pixels.shape
    cells = picture.pixels[..., 3].reshape(height // ROW, ROW, total // width, width)
    assert (cells[:, : ROW - 1] == cells[:, :1, :, :1]).all()
    assert not cells[:, ROW - 1].any()
    return cells[:, 0, :, 0]


def opacity(share):
    return round(LANE + (255 - LANE) * share**0.5)


def test_rows_are_the_phonemes_that_occur_the_most_frequent_first_with_their_shares():
    # 13 of 17 frames are b, 2 are _ and 2 are a; c never occurs.
    assert code_phoneme_map(COUNTS, NAMES).row_labels == ["b 76.5%", "_ 11.8%", "a 11.8%"]


def test_columns_are_the_codes_in_use_by_the_phoneme_they_stand_for_and_its_share():
    shares = np.array([[1, 0.75, 0.5, 0], [0, 0, 0.5, 0], [0, 0.25, 0, 1]])  # codes 3, 0, 2, 4
    picture = code_phoneme_map(COUNTS, NAMES)
    assert opacities(picture, CELL).tolist() == [[opacity(share) for share in row] for row in shares.tolist()]
    assert "4 of 5 are in use" in picture.caption


@pytest.mark.parametrize(("codes", "width"), [(1, CELL), (100, 7), (128, 6), (512, 1), (1024, 1)])
def test_columns_are_equally_wide_and_fill_the_page_as_far_as_whole_pixels_can(codes, width):
    picture = code_phoneme_map(np.ones((codes, 60), int), [str(number) for number in range(60)])
    assert picture.pixels.shape == (60 * ROW, codes * width, 4)
    assert codes * width <= COLUMN - LABELS or width == 1
    assert (picture.magnification, len(picture.row_labels)) == (1, 60)


@pytest.mark.parametrize(
    ("counts", "names"), [(np.zeros((3, 2), int), "ab"), (np.ones((3, 2), int), "abc"), (np.ones(3, int), "abc")]
)
def test_what_cannot_be_drawn_is_refused(counts, names):
    with pytest.raises(NarrowsError, match=r"counts \[K, P\], not all 0, and P names"):
        code_phoneme_map(counts, list(names))


@pytest.mark.parametrize(
    "change",
    [{"figures": {"unseen clips": [], "unseen voices": {"accuracy": 0.5}}}, {"counts": [[1], [1, 2]]}, {"voices": 3}],
)
def test_damaged_figures_of_phonemes_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict) -> None:
    monkeypatch.setattr("narrows.modalities.sound.report.fingerprint", lambda path: "this")
    run = RunFolder(tmp_path)
    whole = {
        "model": "this",
        "figures": {"unseen clips": {"accuracy": 0.5}},
        "voices": {"unseen clips": {"al": 0.5}},
        "training": {"clips": 1, "frames": 3},
        "counts": [[1, 0], [1, 2]],
        "phonemes": ["_", "a"],
    }
    phonemes_file(run).write_text(json.dumps(whole))
    assert len(list(phonemes_section(run))) == 1
    phonemes_file(run).write_text(json.dumps({**whole, **change}))
    with pytest.raises(NarrowsError, match=r"phonemes\.json is damaged.*delete it"):
        list(phonemes_section(run))
