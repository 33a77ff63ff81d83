"""Checking the settings of recipes, with overrides from the command line, and building the objects they describe.

A recipe's `model`, `estimator` and so on name a class and its arguments (`class_path`, `init_args`), which are checked
against the signature of that class. An unknown key or a value of another type is an error that names the key.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Generic, TypeVar

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from narrows.data import Spec
from narrows.estimators import Estimator
from narrows.models import Autoencoder
from narrows.priors import CodeSpec, Prior
from narrows.recipe import RecipeError
from narrows.registry import require_public_classes, require_public_names
from narrows.training.settings import TrainingSettings

__all__ = ["ModelRecipe", "PriorRecipe", "Resolved", "TrainingRecipe", "resolve"]

Kind = TypeVar("Kind")


@dataclass
class TrainingRecipe:
    """Settings of `narrows train`; each modality has a subclass with the settings of its data.

    Args:
        model: makes the model for the data.
        estimator: the loss and its gradient estimator.
        data: the data to train on.
        training: training settings.
        on: run folder of the first stage, or its id on the hub, for a model upon another; None for other models.
        modality: the kind of data, one of `narrows.modalities.MODALITIES`.
    """

    model: Callable[[Spec], Autoencoder]
    estimator: Estimator
    data: Any
    training: TrainingSettings = field(default_factory=TrainingSettings)
    on: str | None = None
    modality: str = ""


@dataclass
class PriorRecipe:
    """Settings of `narrows prior`.

    Args:
        prior: makes the prior for a model's codes.
        training: training settings.
        window: number of codes per window for examples of variable length; None for those of the model's training
            window. Codes of examples of a fixed size are modelled whole.
    """

    prior: Callable[[CodeSpec], Prior]
    training: TrainingSettings = field(default_factory=TrainingSettings)
    window: int | None = None


@dataclass
class ModelRecipe:
    """Settings that `narrows.load()` builds, the `model` of a training recipe.

    Args:
        model: makes the model for the data.
    """

    model: Callable[[Spec], Autoencoder]


class Resolved(Generic[Kind]):
    """Settings checked against the signatures of the classes they name.

    Attributes:
        values: the checked settings.
        yaml: all settings as text, including defaults.
    """

    def __init__(self, parser: ArgumentParser, values: Namespace, kind: type[Kind], origin: str) -> None:
        self.parser, self.values, self.kind, self.origin = parser, values, kind, origin

    @property
    def yaml(self) -> str:
        """The settings as YAML."""
        return self.parser.dump(self.values)

    def build(self) -> Kind:
        """Build the objects that the settings describe; weights are drawn from torch's global generator.

        Raises:
            RecipeError: if a value is not allowed.
        """
        try:
            return self.kind(**vars(self.parser.instantiate(self.values)))
        except ValueError as error:
            raise RecipeError(str(error)) from error
        except (TypeError, RuntimeError) as error:  # such as null for a number, which the parser accepts
            raise RecipeError(f"{self.origin}: a setting has an unsuitable value: {error}") from error


def resolve(
    kind: type[Kind], settings: dict[str, Any], overrides: Sequence[str] = (), origin: str = "recipe"
) -> Resolved[Kind]:
    """Check settings and command-line overrides, such as `--training.steps=100`, against the recipe class `kind`.

    Raises:
        RecipeError: if a key is unknown, missing or of another type; names the key.
        CodeError: if the settings name a class that is not narrows' own, and other code is not trusted.
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
