"""Limits of settings of data, checked when the settings are made."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from narrows.data.errors import DataError

__all__ = ["require_at_least", "require_positive", "require_rest", "require_shares"]


def require_at_least(settings: Any, limits: Mapping[str, int]) -> None:
    """Check that settings, by name, are None or at least as large as their limit.

    Raises:
        DataError: naming the first that is not.
    """
    for name, least in limits.items():
        value = getattr(settings, name)
        if value is not None and value < least:
            raise DataError(f"data.{name} is {value}: it must be at least {least}")


def require_positive(settings: Any, names: Iterable[str]) -> None:
    """Check that settings are None or finite numbers above 0.

    Raises:
        DataError: naming the first that is not.
    """
    for name in names:
        value = getattr(settings, name)
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise DataError(f"data.{name} is {value}: it must be a positive number")


def require_shares(settings: Any, names: Iterable[str] = ("validation", "test")) -> None:
    """Check that settings are shares in [0, 1).

    Raises:
        DataError: naming the first that is not.
    """
    for name in names:
        value = getattr(settings, name)
        if not 0 <= value < 1:
            raise DataError(f"data.{name} is {value}: it must be at least 0 and less than 1")


def require_rest(settings: Any) -> None:
    """Check that `validation` and `test` do not hold out everything together.

    Raises:
        DataError: if they do.
    """
    if settings.validation + settings.test >= 1:
        raise DataError(
            f"data.validation is {settings.validation} and data.test {settings.test}, which hold out everything: their "
            "sum must be less than 1"
        )
