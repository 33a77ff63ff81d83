"""Finding recipes: settings in YAML with variants, from the package or from the user's own file.

This module does not import PyTorch, so that recipes can be listed quickly; `narrows.config` checks and builds them.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from narrows.errors import NarrowsError

__all__ = ["Recipe", "RecipeError", "find_recipe", "recipes"]


class RecipeError(NarrowsError):
    """Error for a missing recipe or an invalid setting."""


class Recipe(NamedTuple):
    """A recipe before its settings are checked: its name and the parts of its text."""

    name: str
    about: str
    settings: dict[str, Any]
    variants: dict[str, dict[str, Any]]

    def variant(self, name: str | None) -> dict[str, Any]:
        """Return the settings with those of a variant merged in; None returns the recipe itself.

        Raises:
            RecipeError: if there is no such variant.
        """
        if name is None:
            return self.settings
        if name not in self.variants:
            known = ", ".join(self.variants) or "none"
            raise RecipeError(f"recipe {self.name} has no variant {name!r}; it has: {known}")
        return _overlay(self.settings, self.variants[name])


def recipes() -> Iterator[Recipe]:
    """Yield the recipes that come with the package, by folder and name."""
    for folder in sorted(_shipped().iterdir(), key=lambda entry: entry.name):
        for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
            if file.name.endswith(".yaml"):
                yield _read(file.name.removesuffix(".yaml"), file)


def find_recipe(name: str) -> Recipe:
    """Return the recipe with that name, or in that YAML file.

    Raises:
        RecipeError: if there is none, or it is not YAML.
    """
    if name.endswith((".yaml", ".yml")):
        return _read(name, Path(name))
    for recipe in recipes():
        if recipe.name == name:
            return recipe
    raise RecipeError(f"no recipe {name!r}: `narrows recipes` lists them, or give a .yaml file")


def _shipped() -> Traversable:
    return resources.files("narrows") / "recipes"


def _read(name: str, file: Traversable | Path) -> Recipe:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise RecipeError(f"recipe {name} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise RecipeError(f"recipe {name} is not a YAML mapping of settings")
    return Recipe(name, content.pop("about", ""), content, content.pop("variants", {}))


def _overlay(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """Return `base` with the entries of `top` merged in; a changed `class_path` discards the arguments in `base`.

    A mapping whose keys are not names, such as the layers of each resolution, is one value and is replaced as a whole.
    """
    if top.get("class_path", base.get("class_path")) != base.get("class_path"):
        return top
    merged = dict(base)
    for key, value in top.items():
        nested = (
            isinstance(value, dict) and isinstance(merged.get(key), dict) and all(str(n).isidentifier() for n in value)
        )
        merged[key] = _overlay(merged[key], value) if nested else value
    return merged
