"""Command-line options and commands for video."""

from __future__ import annotations

import argparse

from narrows.arguments import add_film, add_scale

__all__ = ["add_commands", "add_options"]


def add_options(command: str, parser: argparse.ArgumentParser) -> None:
    """Add the options of a command for films."""
    if command in ("reconstruct", "interpolate", "sample"):
        add_film(parser)
        add_scale(parser)


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add no commands yet."""
