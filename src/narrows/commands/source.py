"""The data of a run: what it was trained on, or another source read in the same way."""

from __future__ import annotations

import yaml

from narrows.config import TrainingRecipe, resolve
from narrows.data import ImageData, open_images
from narrows.training.run import RunFolder

__all__ = ["open_run_data"]


def open_run_data(run: RunFolder, source: str | None = None) -> ImageData:
    """Open the data of a run with its own settings; `source` replaces the place they come from.

    Raises:
        NarrowsError: if the data cannot be read, or are not of the model's shape and classes.
    """
    overrides = [] if source is None else [f"--data.source={source}"]
    resolved = resolve(TrainingRecipe, yaml.safe_load(run.reopen()), overrides, str(run.recipe))
    return open_images(resolved.build().data)
