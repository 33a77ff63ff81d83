"""Command-line options for images."""

from __future__ import annotations

import argparse

from narrows.arguments import positive

__all__ = ["add_commands", "add_options"]


def add_options(command: str, parser: argparse.ArgumentParser) -> None:
    """Add the options of a command that are for images only."""
    if command in ("sample", "reconstruct", "interpolate"):
        parser.add_argument("--scale", type=positive, help="images only: integer magnification (1)")


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add no commands, since images need none of their own."""
