"""The images of any source (a folder, IDX files, Parquet, a hub data set) before they are decoded.

Each source provides splits of `Undecoded` images; the later steps (sizes, decoding, caching) use only these.
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
from narrows.data.pictures import Look
from narrows.data.skipped import Refused

__all__ = ["Found", "Undecoded", "attempt", "each"]

Result = TypeVar("Result")

CHUNK = 32
"""Images decoded by a thread at once; one at a time, small images would take longer to hand over than to decode."""


@dataclass(frozen=True)
class Undecoded:
    """N images that can be opened in any order, from several threads at once.

    Args:
        rows: the row of each image in its source, int64 [N].
        labels: the class of each image, int64 [N], or None.
        open: opens the image of a row with Pillow.
        name: returns the name of a row's image in messages.
        identity: returns the bytes that decide the split of a row: the path of its file relative to the source, or its
            content.
        mark: returns bytes that change with a row: its identity and, for a file, the size.
        stamp: returns text that changes when the source's content does.
        look: the size and colour of all images, if known without opening them.
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
        """Return the images at these indices in [0, N)."""
        index = np.asarray(which, np.int64)
        return replace(self, rows=self.rows[index], labels=None if self.labels is None else self.labels[index])


@dataclass
class Found:
    """The contents of a source.

    Args:
        splits: the images of each split.
        classes: the names of labels 0, 1, ...
        foreign: (file, reason) for each file that cannot be used.
    """

    splits: dict[str, Undecoded]
    classes: list[str]
    foreign: list[tuple[str, str]] = field(default_factory=list)


def attempt(open_image: Callable[[], Image.Image], work: Callable[[Image.Image], Result]) -> Result | Refused:
    """Return the result of `work` on an image, or the reason why it failed."""
    try:
        with open_image() as image:
            return work(image)
    except UnidentifiedImageError:
        return Refused("not an image, or in an unknown format")
    except Exception as error:  # a damaged file can make a decoder raise anything
        return Refused(f"{error}" if isinstance(error, DataError | OSError) else f"{type(error).__name__}: {error}")


def each(items: Undecoded, work: Callable[[Image.Image], Result]) -> Iterator[Result | Refused]:
    """Yield the results of `work` on all images in order, using one thread per core, only a few ahead of the reader."""

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
