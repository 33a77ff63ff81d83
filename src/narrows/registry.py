"""The classes that a file may name: narrows' own public classes, unless the user trusts the file's code.

A `class_path` in a `config.json` or a recipe is an import path, so importing and calling an unchecked one could run a
stranger's code. Settings are therefore checked twice: before parsing, when names are still text and nothing has been
imported, and after parsing, when each name is resolved to the class that would be built.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib import import_module
from typing import Any

from narrows.errors import NarrowsError

__all__ = ["CodeError", "is_trusted", "require_public_classes", "require_public_names", "trusted_code"]

PACKAGES = ("models", "networks", "bottlenecks", "likelihoods", "estimators", "priors")
BUILDING = ("model", "estimator", "prior")
"""Settings of a recipe that name classes."""
NETWORKS = {"encoder": {"networks"}, "decoder": {"networks", "priors"}, "context": {"networks"}}
"""Settings that accept any network, and the packages that have them; networks have no common base class for the parser
to check. The decoder of a stacked model is a prior."""
WORD = re.compile(r"[\w -]*")
"""Other text allowed in those settings: neither import paths nor YAML, both of which the parser would interpret."""

_trusted: ContextVar[bool] = ContextVar("trusted", default=False)


class CodeError(NarrowsError):
    """Error for a file that names code other than narrows' own."""


@contextmanager
def trusted_code(trusted: bool) -> Iterator[None]:
    """Allow files to name any class or function within the block, if `trusted`; they can then run any code here.

    Inside a trusted block, a block with `trusted` False has no effect.
    """
    token = _trusted.set(trusted or is_trusted())
    try:
        yield
    finally:
        _trusted.reset(token)


def is_trusted() -> bool:
    """Return whether files may name any code in this context."""
    return _trusted.get()


def require_public_names(settings: Mapping[str, Any], origin: str) -> None:
    """Check settings as read from a file, before anything is imported for them.

    Args:
        settings: settings of a recipe, or the part of them saved with a model.
        origin: the file, named in messages.

    Raises:
        CodeError: if a `class_path` is not a public class of narrows, or another text could be interpreted as code.
    """
    if is_trusted():
        return
    for key, value in settings.items():
        _require_names(value, str(key), origin, building=key in BUILDING)


def require_public_classes(values: Mapping[str, Any], origin: str) -> None:
    """Check parsed settings, in which every class has its full import path, before anything is built.

    Args:
        values: the parsed settings, with `jsonargparse` namespaces as mappings.
        origin: the file, named in messages.

    Raises:
        CodeError: if anything but a public class of narrows would be built, or an encoder or decoder is not a network.
    """
    if is_trusted():
        return
    for place, value in _leaves(values, ""):
        if callable(value):
            raise _refusal(origin, place, getattr(value, "__qualname__", repr(value)))
        if not place.endswith("class_path"):
            continue
        found = _public().get(value)
        if found is None:
            raise _refusal(origin, place, value)
        setting = place.rsplit(".", 2)[-2]
        if setting in NETWORKS and not found & NETWORKS[setting]:
            raise CodeError(f"{origin}: {place} is {value}, which is not a network of narrows.networks")


def _require_names(value: Any, place: str, origin: str, building: bool) -> None:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key == "class_path":
                if not isinstance(inner, str) or not (inner in _public() or inner in _short_names()):
                    raise _refusal(origin, f"{place}.class_path", inner)
            else:
                _require_names(inner, f"{place}.{key}", origin, building)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for index, inner in enumerate(value):
            _require_names(inner, f"{place}[{index}]", origin, building)
    elif building and isinstance(value, str) and not WORD.fullmatch(value) and value not in _public():
        raise _refusal(origin, place, value)


def _leaves(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{place}.{key}" if place else str(key))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for index, inner in enumerate(value):
            yield from _leaves(inner, f"{place}[{index}]")
    else:
        yield place, value


def _refusal(origin: str, place: str, name: object) -> CodeError:
    return CodeError(
        f"{origin}: {place} is {name!r}, which is not a class of narrows. Loading it could run any code: if you trust "
        "the author of this file, allow it with --trust-code or load(..., trust_code=True)"
    )


@cache
def _public() -> dict[str, set[str]]:
    """Return the public classes by all their import paths, with the packages that export them."""
    found: dict[str, set[str]] = {}
    for package in PACKAGES:
        module = import_module(f"narrows.{package}")
        for name in module.__all__:
            member = getattr(module, name)
            if inspect.isclass(member):
                own = f"{member.__module__}.{member.__qualname__}"
                # The parser writes the shortest import path.
                for path in (f"narrows.{package}.{name}", f"narrows.{name}", own):
                    found.setdefault(path, set()).add(package)
    return found


@cache
def _short_names() -> set[str]:
    return {path.rpartition(".")[2] for path in _public()}
