"""Recipes: typed settings read from YAML, a variant laid over them, then overrides from the command line.

A recipe's `model`, `estimator` and so on name a class and its arguments (`class_path`, `init_args`), checked against
that class's own signature: a key it does not take, or a value of another type, is an error that names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from narrows.errors import NarrowsError
from narrows.estimators import Estimator
from narrows.modalities.images.settings import ImageSettings
from narrows.modalities.sound.dataset import SoundSpec
from narrows.modalities.sound.settings import SoundSettings
from narrows.models import Autoencoder, SoundAutoencoder
from narrows.priors import CodeSpec, Prior
from narrows.registry import require_public_classes, require_public_names
from narrows.training.settings import TrainingSettings

__all__ = [
    "ModelRecipe",
    "PriorRecipe",
    "RecipeError",
    "Resolved",
    "SoundRecipe",
    "TrainingRecipe",
    "find_recipe",
    "recipes",
    "resolve",
    "resolve_images",
    "resolve_training",
]

Kind = TypeVar("Kind")


class RecipeError(NarrowsError):
    """A recipe that is not there, or a setting it may not have."""


@dataclass
class TrainingRecipe:
    """What `narrows train` does.

    Args:
        model: makes the model of the data's shape.
        estimator: the loss and how its gradient is found.
        data: what it is trained on.
        training: how it is trained.
        on: the run folder of a first stage, or the hub's id of one, for a model of two stages; None for others.
    """

    model: Callable[[Any], Autoencoder]
    estimator: Estimator
    data: ImageSettings = field(default_factory=ImageSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    on: str | None = None


@dataclass
class SoundRecipe(TrainingRecipe):
    """What `narrows train` does where `modality` is `sound`.

    Args:
        model: makes the model of the data's rate, window and speakers.
        estimator: the loss and how its gradient is found.
        data: what it is trained on.
        training: how it is trained.
        on: None; no model of sound has two stages.
        modality: tells this kind of recipe from one of images, which has none.
    """

    model: Callable[[SoundSpec], SoundAutoencoder]
    data: SoundSettings  # type: ignore[assignment]
    modality: Literal["sound"] = "sound"


@dataclass
class PriorRecipe:
    """What `narrows prior` does.

    Args:
        prior: makes the prior of a model's codes.
        training: how it is trained.
        window: the codes of a window of sound that it models; None for those of the model's training window. Codes of
            images are modelled whole, without a window.
    """

    prior: Callable[[CodeSpec], Prior]
    training: TrainingSettings = field(default_factory=TrainingSettings)
    window: int | None = None


@dataclass
class ModelRecipe:
    """What `narrows.load()` builds, from the `model` of a training recipe.

    Args:
        model: makes the model of the data's shape, or of their sound.
    """

    model: Callable[[Any], Autoencoder]


class Recipe(NamedTuple):
    """A recipe as found: its name, its text's parts before they are checked, and where it came from."""

    name: str
    about: str
    settings: dict[str, Any]
    variants: dict[str, dict[str, Any]]

    def variant(self, name: str | None) -> dict[str, Any]:
        """The settings with those of a variant laid over them; None is the recipe itself."""
        if name is None:
            return self.settings
        if name not in self.variants:
            known = ", ".join(self.variants) or "none"
            raise RecipeError(f"recipe {self.name} has no variant {name!r}; it has: {known}")
        return _overlay(self.settings, self.variants[name])


class Resolved(Generic[Kind]):
    """Settings checked against the signatures of the classes they name.

    Attributes:
        values: the checked settings.
        yaml: all of them as text, defaults included.
    """

    def __init__(self, parser: ArgumentParser, values: Namespace, kind: type[Kind], origin: str) -> None:
        self.parser, self.values, self.kind, self.origin = parser, values, kind, origin

    @property
    def yaml(self) -> str:
        """The settings as YAML."""
        return self.parser.dump(self.values)

    def build(self) -> Kind:
        """Make the objects that the settings describe; weights are drawn from torch's global generator."""
        try:
            return self.kind(**vars(self.parser.instantiate(self.values)))
        except ValueError as error:
            raise RecipeError(str(error)) from error
        except (TypeError, RuntimeError) as error:  # such as null for a number, which the parser lets pass
            raise RecipeError(f"{self.origin}: a setting cannot have its value: {error}") from error


def resolve(
    kind: type[Kind], settings: dict[str, Any], overrides: Sequence[str] = (), origin: str = "recipe"
) -> Resolved[Kind]:
    """Check settings, and command-line overrides such as `--training.steps=100`, against the recipe class `kind`.

    Raises:
        RecipeError: naming the key that is unknown, missing or ill-typed.
        CodeError: if a class is named that is not narrows' own, and the code of others is not trusted.
    """
    allowed = [entry.name for entry in fields(kind)]  # type: ignore[arg-type]
    unknown = sorted(set(settings) - set(allowed))
    if unknown:
        raise RecipeError(f"{origin}: unknown setting {unknown[0]!r}; the settings are {', '.join(allowed)}")
    require_public_names(settings, origin)
    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False)
    parser.add_class_arguments(kind, as_group=False)
    try:
        values = parser.parse_args(list(overrides), namespace=parser.parse_object(settings))
    except (ArgumentError, TypeError, ValueError) as error:
        raise RecipeError(f"{origin}: {error}") from error
    require_public_classes(values.as_dict(), origin)
    return Resolved(parser, values, kind, origin)


def resolve_training(
    settings: dict[str, Any], overrides: Sequence[str] = (), origin: str = "recipe"
) -> Resolved[TrainingRecipe]:
    """The same of a recipe of images or, where its `modality` says so, of sound.

    Raises:
        RecipeError: as `resolve`; or if the modality is unknown.
    """
    if "modality" not in settings:
        return resolve(TrainingRecipe, settings, overrides, origin)
    if settings["modality"] != "sound":
        raise RecipeError(f"{origin}: modality is {settings['modality']!r}; it is sound, and left out for images")
    return resolve(SoundRecipe, settings, overrides, origin)


def resolve_images(settings: dict[str, Any], overrides: Sequence[str], origin: str) -> Resolved[TrainingRecipe]:
    """The same of a recipe of images, for what is of images alone.

    Raises:
        RecipeError: as `resolve`; or if the recipe is of something else.
    """
    if "modality" in settings:
        raise RecipeError(f"{origin} is a recipe of {settings['modality']}: comparisons and curves are of images")
    return resolve(TrainingRecipe, settings, overrides, origin)


def recipes() -> Iterator[Recipe]:
    """The recipes that come with the package, by modality and name."""
    for folder in sorted(_shipped().iterdir(), key=lambda entry: entry.name):
        for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
            if file.name.endswith(".yaml"):
                yield _read(file.name.removesuffix(".yaml"), file)


def find_recipe(name: str) -> Recipe:
    """The recipe of that name, or in that YAML file.

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
    """`base` with the entries of `top` laid over it; where a `class_path` changes, its arguments start afresh.

    A mapping whose keys are not names is one value, such as the layers of each resolution, and is replaced whole.
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
