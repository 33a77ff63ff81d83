"""Command-line arguments shared by several commands; this module does not import PyTorch."""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path

__all__ = ["add_decoding", "add_film", "add_out", "add_run", "add_sampling", "add_scale", "positive", "seed"]


def positive(text: str) -> int:
    """Parse a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value


def seed(text: str) -> int:
    """Parse the seed of a random number generator."""
    value = int(text)
    if not 0 <= value < 2**63:
        raise argparse.ArgumentTypeError(f"{value} is not from 0 to 2^63 - 1")
    return value


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the argument for the run."""
    parser.add_argument("folder", metavar="RUN", help="a run folder, or the id of one on the Hugging Face hub")


def add_out(parser: argparse.ArgumentParser, help: str, required: bool = False) -> None:
    """Add the option for the output path."""
    parser.add_argument("-o", "--out", type=Path, metavar="PATH", required=required, help=help)


def add_decoding(parser: argparse.ArgumentParser) -> None:
    """Add the options for drawing from an autoregressive decoder."""
    group = parser.add_argument_group("decoders that draw data position by position, such as a WaveNet")
    group.add_argument(
        "--decoder-temperature",
        type=float,
        metavar="T",
        help="sampling temperature; below 1 is cleaner but flatter (1)",
    )
    group.add_argument("--decoder-top-k", type=positive, metavar="K", help="only the K most probable levels")
    group.add_argument(
        "--decoder-top-p", type=float, metavar="P", help="only the most probable levels that together reach P"
    )
    group.add_argument("--decoder-seed", type=seed, metavar="SEED", help="random seed (0)")


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """Add the options for drawing codes from a learned prior."""
    parser.add_argument(
        "--temperature", type=float, default=1.0, metavar="T", help="sampling temperature; below 1, codes vary less (1)"
    )
    parser.add_argument("--top-k", type=positive, metavar="K", help="only the K most probable values of each code")
    parser.add_argument(
        "--top-p", type=float, metavar="P", help="only the most probable values of each code that together reach P"
    )


def add_film(parser: argparse.ArgumentParser) -> None:
    """Add the option for films, unless another kind of data has added it already."""
    with suppress(argparse.ArgumentError):
        help = "also write a film of each (data that move only); mp4 needs the package av"
        parser.add_argument("--film", choices=("gif", "mp4"), help=help)


def add_scale(parser: argparse.ArgumentParser) -> None:
    """Add the option for the magnification of pixels, unless another kind of data has added it already."""
    with suppress(argparse.ArgumentError):
        parser.add_argument("--scale", type=positive, help="data made of pixels only: integer magnification (1)")
