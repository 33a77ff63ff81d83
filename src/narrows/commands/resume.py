"""The settings of a run that may change when it is resumed: those that its state does not depend on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from narrows.config import Resolved
from narrows.errors import NarrowsError
from narrows.training.run import RunFolder

__all__ = ["CHANGEABLE", "require_resumable"]

CHANGEABLE = (
    "training.steps",
    "training.learning_rate",
    "training.warmup",
    "training.decay",
    "training.clip_norm",
    "training.compile",
    "training.log_every",
    "training.validate_every",
    "training.validation_examples",
    "training.gradient_draws",
    "training.checkpoint_every",
    "training.keep",
    "data.source",
    "data.strict",
    "data.memory_limit_gb",
)
"""All others determine the weights, the optimiser's state or the order of the data. `data.source` may have moved."""


def require_resumable(run: RunFolder, begun: Resolved[Any], resolved: Resolved[Any]) -> None:
    """Check that the settings of a resumed run are those it started with, except for `CHANGEABLE`.

    Raises:
        NarrowsError: if another setting differs; names the first one, its two values, and the settings that may change.
    """
    before, after = (dict(_leaves(yaml.safe_load(settings.yaml), "")) for settings in (begun, resolved))
    for name in {**before, **after}:
        if before.get(name) != after.get(name) and name not in CHANGEABLE:
            raise NarrowsError(
                f"{name} is {_said(after, name)}, but it was {_said(before, name)} when the run in {run.path} started, "
                f"and cannot change: leave it out, or train in another folder. With --resume, you may change "
                f"{', '.join(CHANGEABLE)}"
            )


def _said(settings: Mapping[str, Any], name: str) -> str:
    return repr(settings[name]) if name in settings else "not set"


def _leaves(settings: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the settings by their full names; a list is one value."""
    if isinstance(settings, Mapping) and settings:
        for key, value in settings.items():
            yield from _leaves(value, f"{name}.{key}" if name else str(key))
    else:
        yield name, settings
