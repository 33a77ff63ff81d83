"""The data of a run: what it was trained on, or another source read in the same way."""

from __future__ import annotations

from pathlib import Path

import yaml

from narrows.config import resolve_training
from narrows.data import ImageData, SoundData, open_data
from narrows.pretrained import fetch, is_on_hub
from narrows.training.run import RunFolder

__all__ = ["open_run", "open_run_data", "placed", "source_override"]


def open_run(folder: str) -> RunFolder:
    """Return the folder of a run, or of one fetched from the hub, whose results go to `runs/OWNER--NAME` instead.

    Raises:
        NarrowsError: if there is no trained model.
    """
    return RunFolder(fetch(folder), Path("runs") / folder.replace("/", "--") if is_on_hub(folder) else None)


def open_run_data(run: RunFolder, source: str | None = None) -> ImageData | SoundData:
    """Open the data of a run with its own settings; `source` replaces the place they come from.

    Raises:
        NarrowsError: if the data cannot be read, or are not of the model's shape and classes.
    """
    settings, overrides = yaml.safe_load(run.reopen()), source_override(source)
    if source is not None and settings["data"].get("held_out_speakers"):
        overrides.append("--data.held_out_speakers=[]")  # who are speakers of the run's own data
    return open_data(resolve_training(settings, overrides, str(run.recipe)).build().data)


def source_override(source: str | None) -> list[str]:
    """The override of `data.source` that --data stands for."""
    return [] if source is None else [f"--data.source={placed(source)}"]


def placed(name: str) -> str:
    """A path that exists made absolute, to hold from any folder; anything else, such as a name on the hub, as it is."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() else name
