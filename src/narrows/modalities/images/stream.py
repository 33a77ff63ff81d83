"""Streams: hub data sets too large to store, read while training, shuffled in a buffer and decoded on the fly.

Epoch e is the buffered shuffle of `datasets` seeded by (seed, e), without the held-out rows, which their bytes
determine. A resumed run reads the stream again up to its step, so that it continues exactly. Every process reads the
whole stream and decodes its own part of each batch, so the number of processes does not change the batches.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from narrows.data.batch import Batch
from narrows.data.errors import DataError
from narrows.data.hub import bytes_of, load_hub
from narrows.data.loader import BatchPlan, Loader, coins
from narrows.data.pictures import decode
from narrows.data.skipped import Refused, Skipped
from narrows.data.splits import uniform_of
from narrows.modalities.images.files import to_batch
from narrows.modalities.images.hub import Columns, columns_of, labels_of, open_cell
from narrows.modalities.images.settings import ImageSettings
from narrows.modalities.images.undecoded import Undecoded, attempt

if TYPE_CHECKING:
    import datasets

__all__ = ["StreamedImages", "find_stream"]

HELD_OUT = 1000
"""The most examples of a stream that are kept for validation, and for testing."""
SEARCHED = 4096
"""The number of rows at the start of a stream searched for them; limited so that training starts soon."""
BUFFER = 4096
"""The number of undecoded examples in the shuffle buffer."""

Row = dict[str, Any]


@dataclass
class StreamedImages:
    """Training images that are read from a stream.

    Args:
        settings: which images to read, and how.
        rows: the stream, with undecoded images.
        columns: the columns of the image and the label.
        held_out: the share of the rows that training leaves out.
        length: the number of rows of the stream; None if the hub does not state it.
        skipped: collects rows that cannot be read.
        classes: the names of the classes.
    """

    settings: ImageSettings
    rows: datasets.IterableDataset
    columns: Columns
    held_out: float
    length: int | None
    skipped: Skipped
    classes: list[str] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        assert self.settings.shape is not None
        return self.settings.shape

    @property
    def digest(self) -> dict[str, Any]:
        """The digest of what is known without reading the rows: the data set, its columns, the held-out share."""
        local = Path(self.settings.name).expanduser()
        name = local.name if local.exists() else self.settings.name
        known = [name, self.settings.config, self.columns, self.length, self.held_out, self.settings.split_seed]
        return {"examples": None, "sha256": hashlib.sha256(json.dumps(known).encode()).hexdigest()}

    def batches(self, plan: BatchPlan) -> Loader:
        """Return endless training batches like those of `Images`.

        An unreadable image is replaced by another one of the same process's part of the batch.
        """

        def generate() -> Generator[tuple[np.ndarray, ...]]:
            rows = self._rows(plan.seed, plan.start * plan.size)
            with ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as pool:
                step = plan.start
                while True:
                    picked = list(islice(rows, plan.size))[plan.part]
                    pixels, places = self._decode(picked, pool)
                    if self.settings.flip:
                        heads = coins(plan.size, plan.seed, step)[plan.part]
                        pixels[heads] = pixels[heads, ..., ::-1]
                    yield (pixels, *self._labels([picked[place] for place in places]))
                    step += 1

        return Loader(generate())

    def batch(self, pixels: Tensor, labels: Tensor | None = None) -> Batch:
        """Return pixels, uint8 [B, C, H, W], and their labels [B] as models read them."""
        return to_batch(pixels, labels)

    def _rows(self, seed: int, passed: int) -> Iterator[Row]:
        """Yield the rows of successive shuffled epochs, without held-out rows and without the first `passed` rows."""
        epoch = 0
        while True:
            epoch_seed = int(np.random.SeedSequence(seed, spawn_key=(epoch,)).generate_state(1)[0])
            count = kept = 0
            for row in self.rows.shuffle(seed=epoch_seed, buffer_size=BUFFER):
                count += 1
                if _uniform(row, self.columns, self.settings) < self.held_out:
                    continue
                kept += 1
                if kept > passed:
                    yield row
            if kept == 0:
                raise DataError(
                    f"data.source {self.settings.source} has {count} rows and none to train on: data.validation and "
                    "data.test hold them out; set them to 0"
                )
            if self.length not in (None, count):
                raise DataError(
                    f"data.source {self.settings.source} streamed {count} rows, but its description states "
                    f"{self.length}: download it with data.streaming=false"
                )
            # Every epoch has the same number of rows, so that epochs passed entirely need not be read.
            epochs, passed = divmod(max(0, passed - kept), kept)
            epoch += 1 + epochs

    def _decode(self, rows: list[Row], pool: ThreadPoolExecutor) -> tuple[np.ndarray, list[int]]:
        """Return the pixels [B, C, H, W] of rows, and the index of the row of each image."""
        work = partial(decode, shape=self.shape, binary=self.settings.binary)
        results = list(pool.map(lambda row: attempt(partial(open_cell, row[self.columns.image]), work), rows))
        readable = [place for place, result in enumerate(results) if not isinstance(result, Refused)]
        if not readable:
            raise DataError(f"data.source {self.settings.source}: no image of a batch can be read: {results[0]}")
        places = list(range(len(rows)))
        for place, result in enumerate(results):
            if isinstance(result, Refused):
                self.skipped.add(f"{self.settings.name} (a row of the stream)", result.reason)
                logging.getLogger(__name__).warning("%s: a row cannot be read: %s", self.settings.name, result.reason)
                places[place] = readable[place % len(readable)]
        return np.stack([results[place] for place in places]), places

    def _labels(self, rows: list[Row]) -> tuple[np.ndarray, ...]:
        if self.columns.label is None or self.columns.classes is None:
            return ()
        cells = [row[self.columns.label] for row in rows]
        labels = labels_of(cells, range(len(self.columns.classes)), f"{self.settings.name} train")
        if labels is None:
            raise DataError(f"data.source {self.settings.source}: rows of the training split have no label")
        return (labels,)


def find_stream(settings: ImageSettings, skipped: Skipped) -> tuple[StreamedImages, dict[str, Undecoded]]:
    """Open a stream for training, and read the first rows of its splits `validation` and `test`.

    If a split is missing, its rows are held out of training: the bytes of a row decide whether it is held out. Training
    leaves out all such rows; the split consists of those among the first 4,096 rows of the stream, at most 1,000.

    Raises:
        DataError: if the data set cannot be loaded, has no image column, or has labels without class names.
    """
    import datasets

    loaded = load_hub(settings.source, settings.config, streaming=True)
    if "train" not in loaded:
        raise DataError(f"data.source {settings.source} has no training split to stream, only {', '.join(loaded)}")
    features, info = loaded["train"].features, loaded["train"].info
    columns = columns_of(features, settings)
    if columns.classes is None:
        if settings.label_column is not None:
            raise DataError(
                f"data.label_column {columns.label!r} of {settings.name} has no class names, which streaming needs"
            )
        columns = columns._replace(label=None)
    for split, part in loaded.items():
        kept = part.select_columns([name for name in (columns.image, columns.label) if name is not None])
        if isinstance(features[columns.image], datasets.Image):
            kept = kept.cast_column(columns.image, datasets.Image(decode=False))
        loaded[split] = kept
    train = loaded["train"]
    described = (info.splits or {}).get(str(train.split))
    length = None if described is None else described.num_examples
    shares = {split: 0.0 if split in loaded else getattr(settings, split) for split in ("validation", "test")}
    head = list(train.take(SEARCHED)) if any(shares.values()) else []
    drawn = np.array([_uniform(row, columns, settings) for row in head])
    held, low = dict[str, Undecoded](), 0.0
    for split, share in shares.items():
        which = np.flatnonzero((drawn >= low) & (drawn < low + share))
        rows = list(loaded[split].take(HELD_OUT)) if split in loaded else [head[row] for row in which[:HELD_OUT]]
        held[split] = _undecoded(rows, columns, f"{settings.name} {split}")
        low += share
    return StreamedImages(settings, train, columns, low, length, skipped), held


def _uniform(row: Row, columns: Columns, settings: ImageSettings) -> float:
    """Return the number in [0, 1) that decides the split of a row."""
    return uniform_of(bytes_of(row[columns.image]), settings.split_seed)


def _undecoded(rows: list[Row], columns: Columns, name: str) -> Undecoded:
    labels = None
    if columns.label is not None and columns.classes is not None:
        labels = labels_of([row[columns.label] for row in rows], range(len(columns.classes)), name)
    return Undecoded(
        rows=np.arange(len(rows)),
        labels=labels,
        open=lambda row: open_cell(rows[row][columns.image]),
        name=lambda row: f"{name} row {row}",
        identity=lambda row: bytes_of(rows[row][columns.image]),
        mark=lambda row: bytes_of(rows[row][columns.image]),
        stamp=lambda: "\n".join(hashlib.sha256(repr(row).encode()).hexdigest() for row in rows),
    )
