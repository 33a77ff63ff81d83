"""The settings of a recipe's `data` where it is of images."""

from __future__ import annotations

from dataclasses import dataclass

from narrows.data.errors import DataError

__all__ = ["ImageSettings"]


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
        if self.streaming and self.shape is None:
            raise DataError("data.streaming needs data.size and data.channels: a stream is never seen as a whole")

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """(C, H, W), where it is set."""
        return None if self.channels is None or self.size is None else (self.channels, self.size, self.size)

    @property
    def name(self) -> str:
        """The source without its `hf:`."""
        return self.source.removeprefix("hf:")
