"""The settings of `data` in a recipe for images."""

from __future__ import annotations

from dataclasses import dataclass

from narrows.data.errors import DataError
from narrows.data.limits import require_at_least, require_shares

__all__ = ["ImageSettings"]


@dataclass
class ImageSettings:
    """Which images to read, and how.

    Args:
        source: `digits` (scikit-learn's handwritten digits, 8x8); a folder of image files, of IDX files (the format of
            MNIST), of Parquet files in the layout of the Hugging Face hub, or of NumPy's .npy and .npz files with
            uint8 arrays [N, H, W] or [N, H, W, C]; a single such file; or `hf:NAME`, a data set on the hub.
        size: scale the shorter side of images to `size` and crop the centre to `size` x `size`. None keeps the size of
            the images if all have the same, and otherwise uses the largest power of two that fits in the smallest
            image, at most 128.
        channels: 1 (grey) or 3 (RGB); None means 1 if all images are stored as grey, else 3.
        binary: set levels below 128 to 0 and the others to 255, for Bernoulli models.
        flip: mirror training images left to right with probability 1/2.
        validation: the share of the training data to hold out for validation, if the source has no validation split.
        test: the share of the training data to hold out for testing, if the source has no test split.
        split_seed: the seed of the choice of held-out images.
        strict: stop at the first file that cannot be read, instead of skipping it.
        config: the configuration of a hub data set that has several.
        image_column: the column of images in Parquet files and hub data sets, or the name of their array in .npz files;
            None means the only one of images.
        label_column: the column of labels in Parquet files and hub data sets, None for the only column of class
            labels; or the name of their array in .npz files, None for no labels.
        streaming: read a hub data set while training instead of downloading it first; needs `size` and `channels`.
        memory_limit_gb: decoded images larger than this in total (GB) are kept in a file instead of in memory, in the
            folder given by NARROWS_CACHE, by default ~/.cache/narrows; 0 always uses the file, so that images are
            decoded only once.
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
        require_at_least(self, {"size": 1, "split_seed": 0})
        if self.channels not in (None, 1, 3):
            raise DataError(f"data.channels is {self.channels}: it must be 1 (grey) or 3 (RGB)")
        require_shares(self)
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
