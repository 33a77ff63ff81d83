"""Command-line options of motion."""

from __future__ import annotations

import argparse

__all__ = ["add_commands", "add_options"]


def add_options(command: str, parser: argparse.ArgumentParser) -> None:
    """Add the options of a command that are for motion only."""
    if command in ("reconstruct", "interpolate", "sample"):
        parser.add_argument(
            "--film", choices=("gif", "mp4"), help="motion only: also write a film of each; mp4 needs narrows[motion]"
        )


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands of motion: none."""
