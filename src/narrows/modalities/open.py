"""Data of any kind, by the kind of their settings."""

from __future__ import annotations

from narrows.modalities.images.images import ImageData, open_images
from narrows.modalities.images.settings import ImageSettings
from narrows.modalities.sound.dataset import SoundData, open_sounds
from narrows.modalities.sound.settings import SoundSettings

__all__ = ["open_data"]


def open_data(
    settings: ImageSettings | SoundSettings, quiet: bool = False, shape: tuple[int, int, int] | None = None
) -> ImageData | SoundData:
    """Find, split and decode the data that `settings` describe; see `open_images` and `open_sounds`.

    Args:
        settings: which, and how.
        quiet: show no progress and announce nothing (the other processes of a run).
        shape: the shape of the images that a model reads; of sound, settings say all.
    """
    if isinstance(settings, SoundSettings):
        return open_sounds(settings, quiet)
    return open_images(settings, quiet, shape)
