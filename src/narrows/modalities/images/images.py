"""Images by split, as uint8 [N, C, H, W], from image files, arrays, IDX, Parquet, the hub, or the built-in digits."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sized
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from narrows.data.batch import Batch, Spec
from narrows.data.dataset import Data, Examples, Stored
from narrows.data.errors import DataError
from narrows.data.loader import BatchPlan, Loader, batches, random_subset
from narrows.data.pictures import Look, look
from narrows.data.skipped import Refused, Skipped, listed
from narrows.data.splits import SPLITS, Digest, assigned, count_of, digest_of
from narrows.data.walk import walk
from narrows.modalities.images.arrays import find_arrays, is_array
from narrows.modalities.images.cache import decode_into_file, decode_into_memory
from narrows.modalities.images.files import to_batch
from narrows.modalities.images.folders import find_folder, is_image
from narrows.modalities.images.hub import find_hub
from narrows.modalities.images.idx import find_idx, is_idx_images
from narrows.modalities.images.settings import ImageSettings
from narrows.modalities.images.stream import StreamedImages, find_stream
from narrows.modalities.images.undecoded import Found, Undecoded, each
from narrows.progress import Meter, Progress, hidden

__all__ = ["ImageData", "Images", "open_images"]

LARGEST_GUESS = 128
"""The largest size chosen automatically for images of mixed sizes."""

logger = logging.getLogger(__name__)


@dataclass
class Images(Examples):
    """The images of a split.

    Args:
        pixels: uint8 [N, C, H, W], in memory or mapped from a file.
        labels: the class of each image, int64 [N], or None.
        classes: the names of the classes.
        flip: whether to mirror images at random in training batches.
    """

    pixels: np.ndarray
    labels: np.ndarray | None
    classes: list[str] = field(default_factory=list)
    flip: bool = False

    def __len__(self) -> int:
        return len(self.pixels)

    def subset(self, count: int) -> Images:
        """Return `count` images drawn at random; see `Examples.subset`."""
        return self._at(random_subset(len(self), count))

    def taken(self, index: int) -> Images:
        """Return a set of only this image."""
        return self._at(np.array([range(len(self))[index]]))

    def _at(self, which: np.ndarray) -> Images:
        return Images(self.pixels[which], None if self.labels is None else self.labels[which], self.classes)

    def relabelled(self, classes: list[str], labels: np.ndarray | None) -> Images:
        """Return the same images with other labels."""
        return replace(self, classes=classes, labels=labels)

    def batches(self, plan: BatchPlan) -> Loader:
        """Return endless training batches of (pixels uint8 [B, C, H, W],), or of (pixels, labels int64 [B])."""
        return batches(self.pixels, self.labels, plan, self.flip)

    def batch(self, pixels: Tensor, labels: Tensor | None = None) -> Batch:
        """Return pixels, uint8 [B, C, H, W], and their labels [B] as models read them."""
        return to_batch(pixels, labels)

    def whole(self, at_most: int) -> Iterator[Stored]:
        """Yield all images in order."""
        for start in range(0, len(self), at_most):
            part = slice(start, start + at_most)
            pixels = torch.from_numpy(np.ascontiguousarray(self.pixels[part]))
            yield (pixels,) if self.labels is None else (pixels, torch.from_numpy(np.asarray(self.labels[part])))

    def name(self, index: int) -> str:
        """Return a file name made from the index, since the images of a split have no names."""
        return f"{index:05}.png"


@dataclass
class ImageData(Data):
    """A data set of images; `train` may be a stream."""

    train: Images | StreamedImages
    validation: Images
    test: Images

    @property
    def all(self) -> Images:
        """The images of all splits, one after another.

        Raises:
            DataError: if they are streamed.
        """
        if not isinstance(self.train, Images):
            raise DataError("a stream cannot be used as a whole: download the data with data.streaming=false")
        parts = [part for part in (self.train, self.validation, self.test) if len(part)]
        if len(parts) == 1:
            return Images(parts[0].pixels, parts[0].labels, self.classes)
        labels = [part.labels for part in parts if part.labels is not None]
        return Images(
            np.concatenate([part.pixels for part in parts]),
            np.concatenate(labels) if len(labels) == len(parts) else None,
            self.classes,
        )


def open_images(
    settings: ImageSettings,
    quiet: bool = False,
    shape: tuple[int, ...] | None = None,
    progress: Progress = hidden,
) -> ImageData:
    """Find, split and decode the images that `settings` describe.

    Args:
        settings: which images to read, and how.
        quiet: log nothing (for all processes of a run but the first).
        shape: the (C, H, W) of a model, which overrides the settings.
        progress: shows how far the work is.

    Raises:
        DataError: if there are no images, or they do not match the settings.
    """
    skipped, notes = Skipped(settings.strict), list[str]()
    if settings.streaming:
        stream, splits = find_stream(settings, skipped)
        size: tuple[int, ...] = stream.shape
        images, readable = _decode(splits, size, settings, skipped, progress)
        train: Images | StreamedImages = stream
        classes = stream.columns.classes or []
    else:
        found = _find(settings)
        for file, reason in found.foreign:
            skipped.add(file, reason)
        classes = found.classes
        splits = readable = _hold_out(found.splits, settings)
        if chosen := shape or settings.shape:
            size = chosen
        else:
            readable, size = _choose_shape(splits, settings, skipped, notes, progress)
        images, readable = _decode(readable, size, settings, skipped, progress)
        notes += _only_elsewhere(readable, classes)
        train = images.pop("train")
        train.flip = settings.flip
    _require_images(splits, readable, settings, skipped)
    digest = {split: digest_of(map(items.mark, items.rows.tolist())) for split, items in readable.items()}
    if isinstance(train, StreamedImages):
        digest["train"] = train.digest
    summary = _summary(settings, digest, classes, skipped)
    if not quiet:
        logger.info(summary)
        for note in [*notes, *listed("files skipped", [f"{file}: {reason}" for file, reason in skipped])]:
            logger.warning("%s: %s", settings.source, note)
    for part in (train, *images.values()):
        part.classes = classes
    spec = Spec(size, "images", tuple(classes))
    return ImageData(train, **images, spec=spec, skipped=skipped, digest=digest, summary=summary)


def _summary(settings: ImageSettings, digest: Digest, classes: list[str], skipped: Skipped) -> str:
    parts = [f"{count_of(digest.get(split, {}))} {split}" for split in SPLITS]
    kinds = f"{len(classes)} classes" if classes else "no classes"
    return f"{settings.source}: {', '.join(parts)} images; {kinds}; {len(skipped)} files skipped"


def _find(settings: ImageSettings) -> Found:
    source = settings.source
    path = Path(source).expanduser()
    if source == "digits":
        return _digits()
    if source.startswith("hf:"):
        return find_hub(settings)
    if not path.exists():
        raise DataError(f"data.source {source} does not exist; give `digits`, a folder, a file, or hf:NAME for the hub")
    root, files = (path, walk(path)) if path.is_dir() else (path.parent, [path.name])
    if not any(map(is_image, files)):
        if idx := [file for file in files if is_idx_images(file)]:
            return find_idx(root, idx)
        if any(file.endswith(".parquet") for file in files):
            return find_hub(settings)
        if arrays := [file for file in files if is_array(file)]:
            return find_arrays(root, arrays, settings)
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
        identity=lambda row: pixels[row].tobytes(),
        mark=lambda row: pixels[row].tobytes(),
        stamp=lambda: "digits",
        look=Look(8, 8, grey=True),
    )
    return Found({"train": every}, [str(name) for name in bunch.target_names])


def _hold_out(splits: dict[str, Undecoded], settings: ImageSettings) -> dict[str, Undecoded]:
    """Return the splits train, validation and test; hold out the latter two from train if they are missing."""
    some = next(iter(splits.values()))
    train = splits.get("train", some.take([]))
    shares = {split: 0.0 if split in splits else getattr(settings, split) for split in ("validation", "test")}
    held = assigned(map(train.identity, train.rows.tolist()), **shares, seed=settings.split_seed)
    if len(train) and not len(held["train"]):
        raise DataError(
            f"data.source {settings.source} has {len(train)} training images: none is left once data.validation and "
            "data.test are held out; set them to 0, or give more images"
        )
    return {split: splits[split] if split in shares and split in splits else train.take(held[split]) for split in held}


def _only_elsewhere(splits: dict[str, Undecoded], classes: list[str]) -> list[str]:
    """Return a note for each split with images of classes that have no training images."""
    labels = {split: set(items.labels.tolist()) for split, items in splits.items() if items.labels is not None}
    if not (trained := labels.pop("train", set())):
        return []
    others = {split: [classes[label] for label in sorted(found - trained)] for split, found in labels.items()}
    return [
        f"classes without a training image, only in {split}: {', '.join(names)}"
        for split, names in others.items()
        if names
    ]


def _choose_shape(
    splits: dict[str, Undecoded], settings: ImageSettings, skipped: Skipped, notes: list[str], progress: Progress
) -> tuple[dict[str, Undecoded], tuple[int, ...]]:
    """Return the splits without images that cannot be opened, and a shape that suits all others."""
    looks: list[Look] = []
    readable = {}
    with _patient("reading image sizes", sum(map(len, splits.values())), progress) as advance:
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
    _require_images(splits, readable, settings, skipped)
    channels = settings.channels or (1 if all(seen.grey for seen in looks) else 3)
    if settings.size is not None:
        return readable, (channels, settings.size, settings.size)
    heights, widths = {seen.height for seen in looks}, {seen.width for seen in looks}
    if len(heights) == len(widths) == 1:
        return readable, (channels, heights.pop(), widths.pop())
    smallest = min(heights | widths)
    size = min(LARGEST_GUESS, 2 ** (smallest.bit_length() - 1))
    notes.append(
        f"the images differ in size (sides {smallest} to {max(heights | widths)}) and are scaled to {size}x{size}: "
        "set data.size for another size"
    )
    return readable, (channels, size, size)


def _decode(
    splits: dict[str, Undecoded],
    shape: tuple[int, ...],
    settings: ImageSettings,
    skipped: Skipped,
    progress: Progress,
) -> tuple[dict[str, Images], dict[str, Undecoded]]:
    """Return the decoded images of the splits, and the undecoded ones that they came from."""
    count = sum(map(len, splits.values()))
    large = count * math.prod(shape) > settings.memory_limit_gb * 1e9
    images, readable = {}, {}
    with _patient("decoding images", count, progress) as advance:
        for split, items in splits.items():
            decode_all = decode_into_file if large and len(items) else decode_into_memory
            pixels, kept = decode_all(items, shape, settings.binary, skipped, advance)
            readable[split] = items.take(kept)
            images[split] = Images(pixels, readable[split].labels)
    return images, readable


def _require_images(
    splits: Mapping[str, Sized], readable: Mapping[str, Sized], settings: ImageSettings, skipped: Skipped
) -> None:
    for split, items in splits.items():
        if len(items) and not len(readable[split]):
            file, reason = skipped[-1]
            raise DataError(
                f"data.source {settings.source}: none of the {len(items)} {split} images can be read; the last: "
                f"{file}: {reason}"
            )


@contextmanager
def _patient(description: str, total: int, progress: Progress) -> Iterator[Callable[[int], None]]:
    """Count the images done; show progress only after a second."""
    meter, began = Meter(0), time.monotonic()
    with ExitStack() as shown:

        def advance(count: int) -> None:
            nonlocal meter
            if type(meter) is Meter and time.monotonic() - began > 1:
                meter = shown.enter_context(progress(description, total, "images", done=meter.done))
            meter.advance(count)

        yield advance
