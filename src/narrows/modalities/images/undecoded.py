"""The images of a source before they are decoded, whatever it is: a folder, IDX files, Parquet, a hub set.

Every source is found as splits of `Undecoded` images; all that follows (sizes, decoding, caching) knows only these.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from narrows.data.errors import DataError
from narrows.data.skipped import Refused
from narrows.modalities.images.decode import Look

__all__ = ["Found", "Undecoded", "attempt", "each"]

Result = TypeVar("Result")

CHUNK = 32
"""Images a thread takes at once: one at a time, small images would cost more to hand over than to decode."""


@dataclass(frozen=True)
class Undecoded:
    """N images that can be opened in any order, from several threads at once.

    Args:
        rows: where each is in its source, int64 [N].
        labels: their classes, int64 [N], or None.
        open: opens the image of a row, as Pillow does.
        name: names the image of a row in messages.
        identity: what decides the split of a row: the path of its file below the source, or its bytes.
        mark: what tells a row from another version of it: its identity, and of a file the size.
        stamp: text that changes when the source's content does.
        look: what looking at any of them would show, where that is known beforehand.
    """

    rows: np.ndarray
    labels: np.ndarray | None
    open: Callable[[int], Image.Image]
    name: Callable[[int], str]
    identity: Callable[[int], bytes]
    mark: Callable[[int], bytes]
    stamp: Callable[[], str]
    look: Look | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, which: np.ndarray | list[int]) -> Undecoded:
        """The images at these positions of [0, N)."""
        index = np.asarray(which, np.int64)
        return replace(self, rows=self.rows[index], labels=None if self.labels is None else self.labels[index])


@dataclass
class Found:
    """What a source holds.

    Args:
        splits: the images of each split that it has.
        classes: the names of labels 0, 1, ...
        foreign: (file, reason) of what cannot be used.
    """

    splits: dict[str, Undecoded]
    classes: list[str]
    foreign: list[tuple[str, str]] = field(default_factory=list)


def attempt(open_image: Callable[[], Image.Image], work: Callable[[Image.Image], Result]) -> Result | Refused:
    """The result of `work` on an image, or why there is none."""
    try:
        with open_image() as image:
            return work(image)
    except UnidentifiedImageError:
        return Refused("not an image, or of an unknown format")
    except Exception as error:  # a damaged file makes a decoder fail in any way at all
        return Refused(f"{error}" if isinstance(error, DataError | OSError) else f"{type(error).__name__}: {error}")


def each(items: Undecoded, work: Callable[[Image.Image], Result]) -> Iterator[Result | Refused]:
    """The results of `work` on every image, in order, by a thread per core and never far ahead of their reader."""

    def chunk(start: int) -> list[Result | Refused]:
        rows = items.rows[start : start + CHUNK].tolist()
        return [attempt(partial(items.open, row), work) for row in rows]

    threads = min(32, os.cpu_count() or 1)
    starts = iter(range(0, len(items), CHUNK))
    with ThreadPoolExecutor(threads) as pool:
        pending = deque(pool.submit(chunk, start) for start in islice(starts, 2 * threads))
        while pending:
            yield from pending.popleft().result()
            pending.extend(pool.submit(chunk, start) for start in islice(starts, 1))
