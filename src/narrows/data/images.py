"""Images from wherever they are, by split, as uint8 [N, C, H, W]: files, IDX, Parquet, the hub, the built-in digits."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from narrows.data.cache import decode_into_file, decode_into_memory
from narrows.data.decode import Look, look
from narrows.data.errors import DataError
from narrows.data.folders import find_folder, is_image, walk
from narrows.data.hub import find_hub
from narrows.data.idx import find_idx, is_idx_images
from narrows.data.loader import Loader, batches, permutation
from narrows.data.stream import StreamedImages, find_stream
from narrows.data.undecoded import Found, Refused, Skipped, Undecoded, each
from narrows.progress import Meter, progress

__all__ = ["ImageData", "ImageSettings", "Images", "open_images"]

LARGEST_GUESS = 128
"""The largest size chosen for images of mixed sizes."""

logger = logging.getLogger(__name__)


@dataclass
class ImageSettings:
    """Which images, and how they are read.

    Args:
        source: `digits` (scikit-learn's handwritten digits, 8x8); a folder of image files, of IDX files (as MNIST is
            downloaded) or of Parquet files (as the hub lays them out); one such file; or `hf:NAME`, a set of the
            Hugging Face hub.
        size: images become `size` x `size`: the shorter side is scaled to it, then the centre is cropped. None keeps
            the size of the images if they share one, and else takes the largest power of two that fits in the
            smallest of them, at most 128.
        channels: 1 (grey) or 3 (RGB); None is 1 if every image is stored as grey, else 3.
        binary: set pixels to 0 below level 128 and to 255 from there on, for Bernoulli models.
        flip: mirror training images left to right with probability 1/2.
        validation: the share of the training data held out for validation, if the source has no such split.
        test: the share of the training data held out for the test, if the source has no such split.
        split_seed: of the choice of what is held out.
        strict: stop at the first file that cannot be read instead of skipping it.
        config: the configuration of a hub set that has several.
        image_column: the column of the images in Parquet and hub sets; None takes the only one of images.
        label_column: the column of the labels in Parquet and hub sets; None takes the only one of class labels.
        streaming: read a hub set while training instead of fetching it first; `size` and `channels` must be set.
        memory_limit_gb: decoded images beyond this many GB are kept in a file (in the folder NARROWS_CACHE, or else
            ~/.cache/narrows) instead of in memory; 0 keeps any set there, so that it is decoded only once.
    """

    source: str = "digits"
    size: int | None = None
    channels: int | None = None
    binary: bool = False
    flip: bool = False
    validation: float = 0.05
    test: float = 0.05
    split_seed: int = 0
    strict: bool = False
    config: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    streaming: bool = False
    memory_limit_gb: float = 4.0

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise DataError(f"data.size is {self.size}: it must be at least 1")
        if self.channels not in (None, 1, 3):
            raise DataError(f"data.channels is {self.channels}: it must be 1 (grey) or 3 (RGB)")
        for name in ("validation", "test"):
            if not 0 <= getattr(self, name) < 1:
                raise DataError(f"data.{name} is {getattr(self, name)}: it is a share, at least 0 and below 1")
        if self.split_seed < 0:
            raise DataError(f"data.split_seed is {self.split_seed}: it must be at least 0")
        if self.streaming and not self.source.startswith("hf:"):
            raise DataError(f"data.streaming is for hub sets (hf:NAME), not for data.source {self.source}")
        if self.streaming and (self.size is None or self.channels is None):
            raise DataError("data.streaming needs data.size and data.channels: a stream is never seen as a whole")


@dataclass
class Images:
    """The images of a split.

    Args:
        pixels: uint8 [N, C, H, W], in memory or mapped from a file.
        labels: classes, int64 [N], or None.
        flip: whether training batches mirror images.
    """

    pixels: np.ndarray
    labels: np.ndarray | None
    flip: bool = False

    def __len__(self) -> int:
        return len(self.pixels)

    def first(self, count: int) -> Images:
        """The first images, `count` of them or as many as there are."""
        return Images(self.pixels[:count], None if self.labels is None else self.labels[:count])

    def batches(self, batch_size: int, seed: int, start: int = 0, rank: int = 0, processes: int = 1) -> Loader:
        """Endless training batches from step `start` on; see `narrows.data.loader.batches`."""
        return batches(
            self.pixels,
            self.labels,
            batch_size=batch_size,
            seed=seed,
            start=start,
            rank=rank,
            processes=processes,
            flip=self.flip,
        )


@dataclass
class ImageData:
    """A set of images.

    Args:
        train: what to train on.
        validation: held out, to watch training by; may be empty.
        test: held out, to quote figures on; may be empty.
        classes: the names of labels 0, 1, ...; empty if there are no labels.
        shape: (C, H, W).
        skipped: (file, reason) of every file passed over.
    """

    train: Images | StreamedImages
    validation: Images
    test: Images
    classes: list[str]
    shape: tuple[int, int, int]
    skipped: list[tuple[str, str]]


def open_images(settings: ImageSettings, quiet: bool = False) -> ImageData:
    """Find, split and decode the images that `settings` describe.

    Args:
        settings: which, and how.
        quiet: show no progress and announce nothing (the other processes of a run).

    Raises:
        DataError: if there are none, or not as described.
    """
    skipped = Skipped(settings.strict)
    if settings.streaming:
        data = _open_stream(settings, skipped, quiet)
    else:
        found = _find(settings)
        for file, reason in found.foreign:
            skipped.add(file, reason)
        splits = _hold_out(found.splits, settings)
        if settings.size is None or settings.channels is None:
            splits, shape = _choose_shape(splits, settings, skipped, quiet)
        else:
            shape = (settings.channels, settings.size, settings.size)
        images = _decode(splits, shape, settings, skipped, quiet)
        images["train"].flip = settings.flip
        data = ImageData(**images, classes=found.classes, shape=shape, skipped=skipped)
    if skipped and not quiet:
        listed = "\n".join(f"  {file}: {reason}" for file, reason in skipped[:10])
        more = f"\n  and {len(skipped) - 10} more" if len(skipped) > 10 else ""
        logger.warning("%d files of %s are skipped:\n%s%s", len(skipped), settings.source, listed, more)
    return data


def _find(settings: ImageSettings) -> Found:
    source = settings.source
    path = Path(source).expanduser()
    if source == "digits":
        return _digits()
    if source.startswith("hf:"):
        return find_hub(source.removeprefix("hf:"), settings.config, settings.image_column, settings.label_column)
    if not path.exists():
        raise DataError(
            f"data.source {source} is not there; it is `digits`, a folder, a file, or hf:NAME for a set of the hub"
        )
    root, files = (path, walk(path)) if path.is_dir() else (path.parent, [path.name])
    if not any(map(is_image, files)):
        if idx := [file for file in files if is_idx_images(file)]:
            return find_idx(root, idx)
        if any(file.endswith(".parquet") for file in files):
            return find_hub(str(path), settings.config, settings.image_column, settings.label_column)
    return find_folder(root, files)


def _digits() -> Found:
    from sklearn.datasets import load_digits  # slow to import

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    every = Undecoded(
        rows=np.arange(len(pixels)),
        labels=bunch.target.astype(np.int64),
        open=lambda row: Image.fromarray(pixels[row]),
        name=lambda row: f"digits image {row}",
        stamp=lambda: "digits",
        look=Look(8, 8, grey=True),
    )
    return Found({"train": every}, [str(name) for name in bunch.target_names])


def _hold_out(splits: dict[str, Undecoded], settings: ImageSettings) -> dict[str, Undecoded]:
    """The splits train, validation and test; the latter two are taken from the first where they are missing."""
    train = splits["train"]
    order = permutation(len(train), settings.split_seed)
    held = {}
    for split, share in (("validation", settings.validation), ("test", settings.test)):
        if split in splits:
            held[split] = splits[split]
        else:
            count = math.ceil(share * len(train))
            held[split], order = train.take(np.sort(order[:count])), order[count:]
    if not len(order):
        raise DataError(
            f"data.source {settings.source} holds {len(train)} training images: none is left once data.validation and "
            "data.test are held out; set them to 0, or give more images"
        )
    return {"train": train.take(np.sort(order)), **held}


def _choose_shape(
    splits: dict[str, Undecoded], settings: ImageSettings, skipped: Skipped, quiet: bool
) -> tuple[dict[str, Undecoded], tuple[int, int, int]]:
    """The shape that suits all images, and the splits without those that cannot even be looked at."""
    looks: list[Look] = []
    readable = {}
    with _patient("looking at images", sum(map(len, splits.values())), quiet) as advance:
        for split, items in splits.items():
            if items.look is not None:
                looks.append(items.look)
                readable[split] = items
                continue
            kept = []
            for index, result in enumerate(each(items, look)):
                if isinstance(result, Refused):
                    skipped.add(items.name(int(items.rows[index])), result.reason)
                else:
                    looks.append(result)
                    kept.append(index)
                advance(1)
            readable[split] = items.take(kept)
    _require_images(splits, readable, settings.source, skipped)
    channels = settings.channels or (1 if all(seen.grey for seen in looks) else 3)
    if settings.size is not None:
        return readable, (channels, settings.size, settings.size)
    heights, widths = {seen.height for seen in looks}, {seen.width for seen in looks}
    if len(heights) == len(widths) == 1:
        return readable, (channels, heights.pop(), widths.pop())
    smallest = min(heights | widths)
    size = min(LARGEST_GUESS, 2 ** (smallest.bit_length() - 1))
    if not quiet:
        logger.warning(
            "the images of %s differ in size (sides from %d to %d): they become %dx%d; data.size sets another size",
            *(settings.source, smallest, max(heights | widths), size, size),
        )
    return readable, (channels, size, size)


def _decode(
    splits: dict[str, Undecoded], shape: tuple[int, int, int], settings: ImageSettings, skipped: Skipped, quiet: bool
) -> dict[str, Images]:
    count = sum(map(len, splits.values()))
    large = count * math.prod(shape) > settings.memory_limit_gb * 1e9
    images, readable = {}, {}
    with _patient("decoding images", count, quiet) as advance:
        for split, items in splits.items():
            decode_all = decode_into_file if large and len(items) else decode_into_memory
            pixels, kept = decode_all(items, shape, settings.binary, skipped, advance)
            readable[split] = items.take(kept)
            images[split] = Images(pixels, readable[split].labels)
    _require_images(splits, readable, settings.source, skipped)
    return images


def _require_images(
    splits: dict[str, Undecoded], readable: dict[str, Undecoded], source: str, skipped: Skipped
) -> None:
    for split, items in splits.items():
        if len(items) and not len(readable[split]):
            file, reason = skipped[-1]
            raise DataError(
                f"data.source {source}: none of the {len(items)} {split} images can be read; the last: {file}: {reason}"
            )


def _open_stream(settings: ImageSettings, skipped: Skipped, quiet: bool) -> ImageData:
    assert settings.channels is not None
    assert settings.size is not None
    source = settings.source.removeprefix("hf:")
    shape = (settings.channels, settings.size, settings.size)
    shares = {"validation": settings.validation, "test": settings.test}
    rows, length, held, columns = find_stream(
        source, settings.config, settings.image_column, settings.label_column, shares
    )
    train = StreamedImages(source, rows, columns, length, shape, settings.binary, settings.flip, skipped)
    images = _decode(held, shape, settings, skipped, quiet)
    return ImageData(train, **images, classes=columns.classes or [], shape=shape, skipped=skipped)


@contextmanager
def _patient(description: str, total: int, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Count images done; the progress is shown once it has taken a second."""
    meter, began = Meter(0), time.monotonic()
    with ExitStack() as shown:

        def advance(count: int) -> None:
            nonlocal meter
            if type(meter) is Meter and not quiet and time.monotonic() - began > 1:
                meter = shown.enter_context(progress(description, total, "images", done=meter.done))
            meter.advance(count)

        yield advance
