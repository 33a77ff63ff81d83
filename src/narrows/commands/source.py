"""Open the data of a run: those it was trained on, or another source read in the same way."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from narrows.atomic import whole_file
from narrows.data import Data, DataError, Spec, differences
from narrows.data.walk import walk
from narrows.errors import NarrowsError
from narrows.files import read_json
from narrows.migrations import up_to_date
from narrows.modalities import MODALITIES, find_modality
from narrows.modalities.recipes import resolve_training
from narrows.modality import Modality
from narrows.models import Autoencoder
from narrows.pretrained import fetch, is_on_hub
from narrows.progress import Progress, hidden
from narrows.training.run import RunFolder

__all__ = [
    "changes_since",
    "open_data",
    "open_run",
    "open_run_data",
    "placed",
    "record_data",
    "source_override",
    "what_changed",
]

UNKNOWN = (
    "this run was trained by an older version, which held examples out by their position: examples of any split may "
    "have been trained on"
)

logger = logging.getLogger(__name__)


def open_run(folder: str) -> RunFolder:
    """Return the folder of a run; a run on the hub is downloaded, and its results go to `runs/OWNER--NAME`.

    Raises:
        NarrowsError: if there is no trained model.
    """
    return RunFolder(fetch(folder), Path("runs") / folder.replace("/", "--") if is_on_hub(folder) else None)


def open_run_data(
    run: RunFolder,
    model: Autoencoder,
    source: str | None = None,
    overrides: Sequence[str] = (),
    progress: Progress = hidden,
) -> Data:
    """Open the data of a run, or another source with the same settings, in the form that its model reads.

    Args:
        run: the run, which gives the data settings.
        model: the model of the run.
        source: another source; None for the run's own.
        overrides: overrides of data settings, such as `--data.image_column=picture`.
        progress: shows how far the work is.

    Raises:
        NarrowsError: if the data cannot be read, or an override is not of a data setting.
    """
    settings = up_to_date(run.reopen())
    if other := [text for text in overrides if text.startswith("--") and not text.startswith("--data.")]:
        raise NarrowsError(f"{other[0]}: a trained model cannot be changed; only data settings (--data.*) can be set")
    modality = find_modality(model.spec.modality)
    changes = source_override(source)
    if source is not None:
        changes += modality.overrides_of_another_source(settings["data"])
    opened = resolve_training(settings, [*changes, *overrides], str(run.recipe)).build().data
    if source is not None and (note := modality.fitted(model.spec)):
        logger.info("%s: %s", source, note)
    return open_data(modality, opened, progress, spec=model.spec)


def open_data(
    modality: Modality, settings: Any, progress: Progress, quiet: bool = False, spec: Spec | None = None
) -> Data:
    """Open data as `Modality.open` does.

    Raises:
        DataError: as there; if the source holds files of another kind of data, the message says so.
    """
    try:
        return modality.open(settings, progress, quiet, spec)
    except DataError as error:
        others = [name for name in MODALITIES if _holds(name, settings.source)]
        if not others or modality.name in others:
            raise
        raise DataError(
            f"{error}. The recipe is of {modality.name}, and the source holds files of {others[0]}: use a recipe of "
            f"{others[0]} (`narrows recipes` lists them)"
        ) from error


def _holds(modality: str, source: str) -> bool:
    path = Path(source).expanduser()
    files = walk(path) if path.is_dir() else [path.name]
    return any(file.lower().endswith(find_modality(modality).extensions) for file in files)


def record_data(run: RunFolder, source: str, data: Data) -> None:
    """Write the source and digest of a run's training data to its `data.json`."""
    record = {"source": source, "summary": data.summary, "splits": data.digest}
    with whole_file(run.data) as aside:
        aside.write_text(json.dumps(record, indent=1), encoding="utf-8")


def what_changed(run: RunFolder, data: Data) -> str | None:
    """Return, and log as a warning, how the data of a run differ from its training data; None if they do not."""
    changed = changes_since(run, data) if run.data.exists() else UNKNOWN
    if changed is not None:
        logger.warning("%s: the data differ from the training data: %s", run.path, changed)
    return changed


def changes_since(run: RunFolder, data: Data) -> str | None:
    """Return how the data of a run differ from those in its `data.json`; None if they do not.

    Raises:
        NarrowsError: if the file cannot be used.
    """
    try:
        return differences(read_json(run.data)["splits"], data.digest)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise NarrowsError(
            f"{run.data} cannot be used ({error}): delete it to continue without the record of the training data"
        ) from error


def source_override(source: str | None) -> list[str]:
    """Return the override of `data.source` for the option --data."""
    return [] if source is None else [f"--data.source={placed(source)}"]


def shared_overrides(settings: Mapping[str, Any], source: str | None, overrides: Sequence[str]) -> list[str]:
    """Return the overrides of several runs on the same data, so that the data are decoded only once if possible.

    Args:
        settings: the settings of a recipe.
        source: the data; None for the recipe's own.
        overrides: overrides of the recipe, for all runs.
    """
    modality = find_modality(up_to_date(settings)["modality"])
    return [*modality.shared_overrides, *source_override(source), *overrides]


def placed(name: str) -> str:
    """Return an existing path as an absolute one; return anything else, such as a name on the hub, unchanged."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() else name
