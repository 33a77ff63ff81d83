"""Training recipes, by their modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from narrows.config import Resolved, TrainingRecipe, resolve
from narrows.migrations import up_to_date
from narrows.modalities import find_modality

__all__ = ["resolve_training"]


def resolve_training(
    settings: Mapping[str, Any], overrides: Sequence[str] = (), origin: str = "recipe"
) -> Resolved[TrainingRecipe]:
    """Return the settings of a training recipe, checked against the classes of its modality.

    Raises:
        NarrowsError: if the modality is unknown; the message lists those there are.
        RecipeError: as `narrows.config.resolve`.
    """
    settings = up_to_date(settings)
    return resolve(find_modality(str(settings["modality"]), origin).recipe, settings, overrides, origin)
