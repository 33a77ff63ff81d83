"""Images in data sets of the hub and in Parquet files.

An image is stored as {bytes, path}, as on the hub, or as bytes. `datasets` keeps an Arrow copy in its own cache.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from narrows.data.errors import DataError
from narrows.data.hub import bytes_of, load_hub
from narrows.modalities.images.settings import ImageSettings
from narrows.modalities.images.undecoded import Found, Undecoded

if TYPE_CHECKING:
    import datasets

__all__ = ["Columns", "columns_of", "find_hub", "labels_of", "open_cell"]


class Columns(NamedTuple):
    """The columns of the image and the label; `classes` are the names of the labels if the data set has them."""

    image: str
    label: str | None
    classes: list[str] | None


def columns_of(features: Mapping[str, Any] | None, settings: ImageSettings) -> Columns:
    """Return the columns of the settings or, where they are None, the only one of images and of class labels.

    Raises:
        DataError: if a requested column is missing, or the choice is ambiguous; the message lists the columns.
    """
    import datasets

    features = features or {}
    image, label = settings.image_column, settings.label_column
    listed = f"the columns of {settings.name} are " + (", ".join(features) or "unknown")
    for setting, name in (("image_column", image), ("label_column", label)):
        if name is not None and name not in features:
            raise DataError(f"data.{setting} is {name!r}, but {listed}")
    if image is None:
        images = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
        images = images or [name for name, feature in features.items() if _holds_bytes(feature)]
        if len(images) != 1:
            raise DataError(f"there is not exactly one column of images: set data.image_column; {listed}")
        image = images[0]
    if label is None:
        labels = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
        labels = labels or [name for name in ("label", "labels") if name in features and name != image]
        if len(labels) > 1:
            raise DataError(f"several columns have labels ({', '.join(labels)}): set data.label_column; {listed}")
        label = labels[0] if labels else None
    feature = None if label is None else features[label]
    if isinstance(feature, datasets.ClassLabel):
        return Columns(image, label, list(feature.names))
    if feature is not None and not isinstance(feature, datasets.Value):
        raise DataError(f"data.label_column {label!r} has {feature}, not one label per row; {listed}")
    return Columns(image, label, None)


def open_cell(cell: Any) -> Image.Image:
    """Open the image of a row.

    Raises:
        DataError: if the row has none.
    """
    content, path = (cell["bytes"], cell.get("path")) if isinstance(cell, dict) else (cell, None)
    if content is not None:
        return Image.open(io.BytesIO(content))
    if path is None:
        raise DataError("the row has no image")
    return Image.open(path)


def find_hub(settings: ImageSettings) -> Found:
    """Find the images of a hub data set, or of local Parquet files, by split.

    Raises:
        DataError: if it cannot be loaded, has no image column, or has labels that are not among its classes.
    """
    loaded = load_hub(settings.source, settings.config)
    columns = columns_of(next(iter(loaded.values())).features, settings)
    raw: dict[str, list[Any]] = {}
    if columns.label is not None:
        raw = {split: part[columns.label][:] for split, part in loaded.items()}
    values = _values(raw) if columns.classes is None else range(len(columns.classes))
    found = {}
    for split, part in loaded.items():
        name = f"{settings.name} {split}"
        labels = labels_of(raw[split], values, name) if raw else None
        found[split] = _split(name, part, columns.image, labels)
    return Found(found, columns.classes or [str(value) for value in values])


def _holds_bytes(feature: Any) -> bool:
    inner = feature.get("bytes") if isinstance(feature, dict) else feature
    return getattr(inner, "dtype", None) in ("binary", "large_binary")


def _split(name: str, part: datasets.Dataset, column: str, labels: np.ndarray | None) -> Undecoded:
    cells = part.select_columns(column).with_format("arrow")[:].column(column)
    return Undecoded(
        rows=np.arange(len(part)),
        labels=labels,
        open=lambda row: open_cell(cells[row].as_py()),
        name=lambda row: f"{name} row {row}",
        identity=lambda row: bytes_of(cells[row].as_py()),
        mark=lambda row: bytes_of(cells[row].as_py()),
        stamp=lambda: "\n".join(file["filename"] for file in part.cache_files),
    )


def _values(raw: dict[str, list[Any]]) -> Sequence[Any]:
    """Return the values of labels without class names: 0, 1, ... up to the highest integer, or the sorted strings."""
    values = {value for column in raw.values() for value in column if value is not None}
    return range(max(values, default=-1) + 1) if all(isinstance(value, int) for value in values) else sorted(values)


def labels_of(column: list[Any], values: Sequence[Any], name: str) -> np.ndarray | None:
    """Return labels as indices into `values`; None if the split has none, which the hub marks by -1 or None.

    Raises:
        DataError: if only some rows have a label in `values`.
    """
    positions = {value: index for index, value in enumerate(values)}
    labels = np.array([positions.get(value, -1) for value in column], np.int64)
    unknown = np.flatnonzero(labels < 0)
    if len(unknown) == len(labels):
        return None
    if len(unknown):
        raise DataError(
            f"{name} row {unknown[0]}: label {column[unknown[0]]!r} is not one of its {len(values)} classes"
        )
    return labels
