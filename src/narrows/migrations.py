"""Format versions of files on disk, and the migrations of older formats.

Files contain the short, registered names of classes, so that moving a class breaks no saved run. Only this module knows
how formats without a modality distinguished the kinds of data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from narrows.errors import NarrowsError

__all__ = ["FORMATS", "migrate", "short_names", "up_to_date"]

Content = dict[str, Any]

RENAMED = {"SoundAutoencoder": "Autoencoder", "ImageStem": "Stem", "ImageHead": "Head"}
"""Former names of classes in files."""


def migrate(kind: str, content: Mapping[str, Any], origin: str) -> Content:
    """Return the content of a file in the current format.

    Args:
        kind: kind of the file, one of `FORMATS`.
        content: content of the file; a missing `format` means 1.
        origin: path of the file, for messages.

    Raises:
        NarrowsError: if the format is newer than this version, or is not a version number.
    """
    version = content.get("format", 1)
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise NarrowsError(f"{origin}: format is {version!r}, which is no version number: the file is damaged")
    if version > FORMATS[kind]:
        raise NarrowsError(
            f"{origin} has format {version}, written by a newer version of narrows; this one reads up to format "
            f"{FORMATS[kind]}: update narrows to read the file"
        )
    migrated = dict(content)
    for step in range(version, FORMATS[kind]):
        migrated = _MIGRATIONS[kind][step](migrated)
    return {name: value for name, value in migrated.items() if name != "format"}


def up_to_date(settings: Mapping[str, Any]) -> Content:
    """Return the settings of a recipe with current class names, and with its modality.

    Recipes have no format: settings that were valid once remain valid, under the current names.
    """
    return {"modality": "images", **_renamed(dict(settings))}


def short_names(value: Any) -> Any:
    """Return settings in which narrows' own classes have their short names."""
    if isinstance(value, Mapping):
        return {key: _short(inner) if key == "class_path" else short_names(inner) for key, inner in value.items()}
    return [short_names(inner) for inner in value] if isinstance(value, list) else value


def _short(path: Any) -> Any:
    return path.rpartition(".")[2] if isinstance(path, str) and path.startswith("narrows.") else path


def _renamed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _rename(inner) if key == "class_path" else _renamed(inner) for key, inner in value.items()}
    return [_renamed(inner) for inner in value] if isinstance(value, list) else value


def _rename(path: Any) -> Any:
    short = _short(path)
    return RENAMED.get(short, path) if isinstance(short, str) else path


def _second_model(content: Content) -> Content:
    """Migrate format 1, which identified sound by its key and stored only the shape of images."""
    shape, classes, sound = content["shape"], content.get("classes", []), content.get("sound")
    spec: Content = {"shape": shape, "classes": classes}
    if sound is not None:
        spec |= {"classes": sound["speakers"], "bounds": [-1, 1], "variable": True, "rate": sound["sample_rate"]}
    modality = "images" if sound is None else "sound"
    return {"model": short_names(_renamed(content["model"])), "modality": modality, "spec": spec}


def _second_prior(content: Content) -> Content:
    return {"prior": short_names(_renamed(content["prior"])), "codes": content["codes"]}


def _second_codes(content: Content) -> Content:
    """Migrate format 1, which stored sounds end to end with positions first, and no sizes of images (the model's)."""
    import numpy as np

    codes = content["codes"]
    if "lengths" not in content:
        axis = int(codes.dtype.kind == "f")
        return {
            **content,
            "lengths": np.full(len(codes), codes.shape[1 + axis]),
            "sizes": np.zeros((len(codes), 0), int),
        }
    parts = np.split(codes, np.cumsum(content["lengths"])[:-1])
    longest = max(content["lengths"])
    filled = np.stack([np.pad(part, [(0, longest - len(part)), *[(0, 0)] * (part.ndim - 1)]) for part in parts])
    if codes.dtype.kind == "f":
        filled = filled.swapaxes(1, 2)
    return {**content, "codes": filled, "sizes": content["samples"][:, np.newaxis]}


def _second_evaluation(content: Content) -> Content:
    """Migrate format 1, which counted examples under their unit and had no importance samples for sound."""
    unit = next(unit for unit in ("examples", "images", "clips") if unit in content)
    return {"examples": content[unit], "unit": unit, "samples": 1, **content}


FORMATS = {"model": 2, "prior": 2, "codes": 2, "evaluation": 2}
"""Current format of each kind of file: config.json of models and of priors, codes.npz and evaluation.json."""

_MIGRATIONS: dict[str, dict[int, Callable[[Content], Content]]] = {
    "model": {1: _second_model},
    "prior": {1: _second_prior},
    "codes": {1: _second_codes},
    "evaluation": {1: _second_evaluation},
}
"""For each kind of file, the migration from each format to the next."""
