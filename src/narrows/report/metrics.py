"""Reading `metrics.jsonl`, the logged figures of a run: one JSON object per line, each with its `step`."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from narrows.errors import NarrowsError

__all__ = ["read_metrics"]


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """Return the rows of a metrics file, in the order written.

    An unreadable last line without a line end, as left by a killed process, is ignored.

    Raises:
        NarrowsError: if any other line is not a JSON object with a `step`; the message names file and line.
    """
    *lines, unfinished = Path(path).read_bytes().split(b"\n")
    rows = [_row(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1)]
    if unfinished:
        with suppress(NarrowsError):
            rows.append(_row(unfinished, str(path)))
    return rows


def _row(line: bytes, place: str) -> dict[str, Any]:
    """Parse one line found at `place`."""
    try:
        row = json.loads(line)
    except ValueError as error:
        raise NarrowsError(f"{place}: this is not JSON ({error}); correct or delete the line") from error
    if not isinstance(row, dict) or "step" not in row:
        raise NarrowsError(f'{place}: this is not a JSON object with a "step"; correct or delete the line')
    return row
