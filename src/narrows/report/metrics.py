"""Reading `metrics.jsonl`, the figures a run has logged: one JSON object a line, each with its `step`."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from narrows.errors import NarrowsError

__all__ = ["read_metrics"]


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """Return the rows of a metrics file, in the order written.

    A last line without its line end that cannot be read is what a kill leaves behind, and is ignored.

    Raises:
        NarrowsError: at any other line that is not a JSON object with a `step`, with the file and the line.
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
        raise NarrowsError(f"{place}: not a line of JSON ({error}); mend or delete that line.") from error
    if not isinstance(row, dict) or "step" not in row:
        raise NarrowsError(f'{place}: a row of metrics is an object with a "step"; mend or delete that line.')
    return row
