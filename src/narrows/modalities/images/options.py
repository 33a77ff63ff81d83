"""Command-line options for images."""

from __future__ import annotations

import argparse

from narrows.arguments import add_scale

__all__ = ["add_commands", "add_options"]


def add_options(command: str, parser: argparse.ArgumentParser) -> None:
    """Add the options of a command that are for images only."""
    if command in ("sample", "reconstruct", "interpolate"):
        add_scale(parser)


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add no commands, since images need none of their own."""
