"""Files to tensors and back: images from a folder, IDX, Parquet, the hub or built in, and the batches to train on."""

from narrows.data.errors import DataError
from narrows.data.files import image_grid, read_images, save_image, to_uint8, to_unit
from narrows.data.images import ImageData, Images, open_images
from narrows.data.loader import Loader, batches
from narrows.data.settings import ImageSettings
from narrows.data.stream import StreamedImages

__all__ = [
    "DataError",
    "ImageData",
    "ImageSettings",
    "Images",
    "Loader",
    "StreamedImages",
    "batches",
    "image_grid",
    "open_images",
    "read_images",
    "save_image",
    "to_uint8",
    "to_unit",
]
