"""Load data sets of the Hugging Face hub, and local Parquet files or folders in its layout, with `datasets`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from narrows.data.errors import DataError
from narrows.data.splits import NAMES, SPLITS, split_of

__all__ = ["bytes_of", "load_hub"]


def load_hub(source: str, config: str | None = None, streaming: bool = False) -> dict[str, Any]:
    """Return the splits of a hub data set or a local folder or file.

    Each split is a `datasets.Dataset`, or an `IterableDataset` if streamed. A single split is used for training,
    whatever its name. If several names stand for the same split, the exact name is used (`train`, not `train_small`);
    without an exact name, all are joined (`train.100` and `train.360`).

    Args:
        source: `hf:NAME`, or a local folder or file.
        config: the configuration of a data set that has several.
        streaming: read the data while they are used instead of downloading them first.

    Raises:
        DataError: if it cannot be loaded, with the reason from `datasets`, or if no split has a usual name.
    """
    import datasets  # takes a second to import, and other sources do not need it

    name = source.removeprefix("hf:")
    path = Path(name).expanduser()
    place, files = (str(path) if path.exists() else name), None
    if path.is_file():
        place, files = "parquet", {"train": str(path)}
    try:
        loaded = datasets.load_dataset(place, config, data_files=files, streaming=streaming)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = f"{error}" if error.__cause__ is None else f"{error} ({error.__cause__})"
        raise DataError(f"data.source {source} cannot be loaded: {reason}") from error
    if len(loaded) == 1:
        return {"train": next(iter(loaded.values()))}
    named = {split: part for split in SPLITS if (part := _part(loaded, split)) is not None}
    if not named:
        raise DataError(
            f"data.source {source} has no split with a usual name such as train or test, only {', '.join(loaded)}"
        )
    return named


def _part(loaded: Mapping[str, Any], split: str) -> Any | None:
    """Return the given split of a data set, or None."""
    import datasets

    parts = {name: part for name, part in loaded.items() if split_of(name) == split}
    plain = [part for name, part in parts.items() if name.lower() in NAMES[split]]
    found = plain or list(parts.values())
    return datasets.concatenate_datasets(found) if len(found) > 1 else next(iter(found), None)


def bytes_of(cell: Any) -> bytes:
    """Return bytes that identify the image or sound of a row: its content, from the row or from a file.

    For a row without readable content, which is skipped later, return its path instead.
    """
    content, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
    if content is None and path is not None and Path(path).is_file():
        return Path(path).read_bytes()
    return content if isinstance(content, bytes) else repr(path or cell).encode()
