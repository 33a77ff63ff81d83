from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from narrows.report import read_metrics

ROWS = [{"step": 1, "loss": 2.5}, {"step": 2, "loss": 2.0, "split": "validation", "note": "é"}]
WHOLE = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def test_rows_come_back_in_order(path: Path) -> None:
    path.write_bytes(WHOLE)
    assert read_metrics(path) == ROWS


def test_a_file_cut_anywhere_in_its_last_line_keeps_the_lines_before(path: Path) -> None:
    for end in range(WHOLE.index(b"\n") + 1, len(WHOLE) - 1):
        path.write_bytes(WHOLE[:end])
        assert read_metrics(path) == ROWS[:1]
    path.write_bytes(WHOLE[:-1])
    assert read_metrics(path) == ROWS


def test_an_empty_file_has_no_rows(path: Path) -> None:
    path.write_bytes(b"")
    assert read_metrics(path) == []


@pytest.mark.parametrize("bad", [b'{"step": 3, "lo', b"[1, 2]", b'{"loss": 1.0}', b"", b'{"step": "\xff"}'])
@pytest.mark.parametrize("after", [b"", WHOLE])
def test_any_other_bad_line_is_named(bad: bytes, after: bytes, path: Path) -> None:
    path.write_bytes(WHOLE + bad + b"\n" + after)
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 3: "):
        read_metrics(path)


def test_values_that_are_not_finite_are_read(path: Path) -> None:
    path.write_text('{"step": 1, "loss": NaN}\n')
    assert math.isnan(read_metrics(path)[0]["loss"])
