"""Files to tensors and back: images from a folder, IDX, Parquet, the hub or built in, and the batches to train on."""

from narrows.data.clips import Clips
from narrows.data.errors import DataError
from narrows.data.files import image_grid, read_images, save_image, to_uint8, to_unit
from narrows.data.images import ImageData, Images, open_images
from narrows.data.loader import Loader, batches
from narrows.data.open import open_data
from narrows.data.phonemes import PhonemeTrack, PhonemeTracks, read_phonemes
from narrows.data.settings import ImageSettings
from narrows.data.sound import SoundData, SoundSpec, open_sounds
from narrows.data.sound_files import read_sound, to_waveform, write_sound
from narrows.data.sound_settings import SoundSettings
from narrows.data.splits import differences
from narrows.data.stream import StreamedImages

__all__ = [
    "Clips",
    "DataError",
    "ImageData",
    "ImageSettings",
    "Images",
    "Loader",
    "PhonemeTrack",
    "PhonemeTracks",
    "SoundData",
    "SoundSettings",
    "SoundSpec",
    "StreamedImages",
    "batches",
    "differences",
    "image_grid",
    "open_data",
    "open_images",
    "open_sounds",
    "read_images",
    "read_phonemes",
    "read_sound",
    "save_image",
    "to_uint8",
    "to_unit",
    "to_waveform",
    "write_sound",
]
