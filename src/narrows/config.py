"""The settings of recipes, checked and built: a variant laid over a recipe, then overrides from the command line.

A recipe's `model`, `estimator` and so on name a class and its arguments (`class_path`, `init_args`), checked against
that class's own signature: a key it does not take, or a value of another type, is an error that names it.
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
    """What `narrows train` does; each modality has one of its own, with the settings of its data.

    Args:
        model: makes the model of the data.
        estimator: the loss and how its gradient is found.
        data: what it is trained on.
        training: how it is trained.
        on: the run folder of a first stage, or the hub's id of one, for a model of two stages; None for others.
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
    """What `narrows prior` does.

    Args:
        prior: makes the prior of a model's codes.
        training: how it is trained.
        window: the codes of a window that it models, of examples of any length; None for those of the model's training
            window. Codes of examples of a fixed size are modelled whole, without a window.
    """

    prior: Callable[[CodeSpec], Prior]
    training: TrainingSettings = field(default_factory=TrainingSettings)
    window: int | None = None


@dataclass
class ModelRecipe:
    """What `narrows.load()` builds, from the `model` of a training recipe.

    Args:
        model: makes the model of the data.
    """

    model: Callable[[Spec], Autoencoder]


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
