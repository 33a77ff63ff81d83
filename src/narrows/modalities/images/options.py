"""What images add to the command line."""

from __future__ import annotations

import argparse

from narrows.arguments import positive

__all__ = ["add_commands", "add_options"]


def add_options(command: str, parser: argparse.ArgumentParser) -> None:
    """Add the options that a command has for images alone."""
    if command in ("sample", "reconstruct", "interpolate"):
        parser.add_argument("--scale", type=positive, help="images only: integer magnification (1)")


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add no command."""
