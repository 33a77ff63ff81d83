"""Sets of the Hugging Face hub, and Parquet files or folders laid out as the hub does, by way of `datasets`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from narrows.data.errors import DataError
from narrows.data.splits import NAMES, SPLITS, split_of

__all__ = ["bytes_of", "load_hub"]


def load_hub(source: str, config: str | None = None, streaming: bool = False) -> dict[str, Any]:
    """The splits of a hub set or a local folder or file: `datasets.Dataset`, or `IterableDataset` if streamed.

    A set of a single split is all for training, whatever that is called. Of several whose names tell the same split,
    the one of just that name is read (`train`, not `train_small`), or else all (`train.100` and `train.360`).

    Args:
        source: `hf:NAME`, or a local folder or file.
        config: the configuration of a set that has several.
        streaming: read it while it is used instead of fetching it first.

    Raises:
        DataError: if it cannot be had, with the reason `datasets` gives, or none of its splits has a usual name.
    """
    import datasets  # it takes a second to import, which other sources need not wait for

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
        raise DataError(f"data.source {source} has no split to train or test on, only {', '.join(loaded)}")
    return named


def _part(loaded: Mapping[str, Any], split: str) -> Any | None:
    """Return what a set holds of a split, or None."""
    import datasets

    parts = {name: part for name, part in loaded.items() if split_of(name) == split}
    plain = [part for name, part in parts.items() if name.lower() in NAMES[split]]
    found = plain or list(parts.values())
    return datasets.concatenate_datasets(found) if len(found) > 1 else next(iter(found), None)


def bytes_of(cell: Any) -> bytes:
    """Return what tells the image or sound of a row from any other: its bytes, be they in the row or in a file.

    A row whose bytes cannot be had, which is skipped later, has its path instead.
    """
    content, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
    if content is None and path is not None and Path(path).is_file():
        return Path(path).read_bytes()
    return content if isinstance(content, bytes) else repr(path or cell).encode()
