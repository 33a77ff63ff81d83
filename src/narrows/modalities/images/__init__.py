"""Images: files, IDX, Parquet, hub sets and streams, and what a report shows of them."""

from narrows.modalities.images.files import image_grid, read_images, save_image, to_uint8, to_unit
from narrows.modalities.images.images import ImageData, Images, open_images
from narrows.modalities.images.settings import ImageSettings
from narrows.modalities.images.stream import StreamedImages

__all__ = [
    "ImageData",
    "ImageSettings",
    "Images",
    "StreamedImages",
    "image_grid",
    "open_images",
    "read_images",
    "save_image",
    "to_uint8",
    "to_unit",
]
