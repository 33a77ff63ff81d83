"""Command-line options and commands for music."""

from __future__ import annotations

import argparse
from pathlib import Path

from narrows.arguments import add_decoding, add_out, add_run, positive, seed

__all__ = ["add_commands", "add_options"]

THRESHOLD_HELP = "probability above which a note sounds (0.5)"


def add_options(command: str, parser: argparse.ArgumentParser) -> None:
    """Add the options of a command that are for music only."""
    if command == "evaluate":
        parser.add_argument(
            "--remove",
            type=share,
            metavar="P",
            help="music only: measure how many notes are restored if each is removed with probability P",
        )
    elif command in ("reconstruct", "interpolate", "sample"):
        parser.add_argument("--threshold", type=share, metavar="P", help=f"music only: {THRESHOLD_HELP}")


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `compose`, `restore` and `finetune`."""
    help = "make pieces of music of any length"
    parser = subparsers.add_parser("compose", help=help, description=f"{help.capitalize()}, as MIDI files.")
    add_run(parser)
    parser.add_argument("--steps", type=positive, default=1000, help="steps of each piece (1000)")
    parser.add_argument("-n", type=positive, default=1, metavar="N", help="number of pieces (1)")
    parser.add_argument("--start", type=Path, metavar="FILE", help="a MIDI file to go on from")
    parser.add_argument(
        "--through",
        nargs="+",
        default=[],
        metavar="LATENT",
        help="latents to go through: numbers such as '0.5 -1', or FILE, or FILE@SECONDS for its window there",
    )
    parser.add_argument("--seed", type=seed, default=0, help="random seed of latents and of draws (0)")
    parser.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        metavar="T",
        help="of decoders that draw, and of a learned prior; below 1 is cleaner but flatter (1)",
    )
    parser.add_argument("--threshold", type=share, default=0.5, metavar="P", help=THRESHOLD_HELP)
    add_out(parser, "the folder to write (pieces in the run folder)")
    parser.set_defaults(run=_compose)

    help = "add the notes that are missing in MIDI files"
    parser = subparsers.add_parser("restore", help=help, description=f"{help.capitalize()}, as a model expects them.")
    add_run(parser)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="the MIDI files")
    parser.add_argument("--threshold", type=share, default=0.5, metavar="P", help=THRESHOLD_HELP)
    add_out(parser, "the folder to write (restored in the run folder)")
    add_decoding(parser)
    parser.set_defaults(run=_restore)

    help = "train classifiers of music with few labels, from a trained encoder"
    parser = subparsers.add_parser("finetune", help=help, description=f"{help.capitalize()}, and compare them.")
    add_run(parser)
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="TABLE",
        help="a CSV file with the columns file and label; without, each song is a class",
    )
    parser.add_argument(
        "--counts",
        type=counts,
        default=[1, 2, 5, 10],
        metavar="N,N",
        help="labelled windows of each class (1,2,5,10); all are used in the end, too",
    )
    parser.add_argument("--seeds", type=positive, default=5, help="number of choices of windows and of new weights (5)")
    parser.add_argument("--steps", type=positive, default=200, help="optimiser steps of each classifier (200)")
    add_out(parser, "the folder to write (finetuned in the run folder)")
    parser.set_defaults(run=_finetune)


def _compose(options: argparse.Namespace, _: list[str]) -> object:
    from narrows.modalities.music.compose import compose
    from narrows.progress import progress
    from narrows.sampling import Sampling

    return compose(
        options.folder,
        options.steps,
        n=options.n,
        start=options.start,
        through=options.through,
        out=options.out,
        sampling=Sampling(options.temperature, seed=options.seed),
        threshold=options.threshold,
        progress=progress,
    )


def _restore(options: argparse.Namespace, _: list[str]) -> object:
    from narrows.decoding import decoding_of
    from narrows.modalities.music.restore import restore
    from narrows.progress import progress

    decoding = decoding_of(options)
    return restore(options.folder, options.files, options.out, decoding, options.threshold, progress)


def _finetune(options: argparse.Namespace, _: list[str]) -> object:
    from narrows.modalities.music.finetune import finetune
    from narrows.progress import progress

    return finetune(options.folder, options.labels, options.counts, options.seeds, options.steps, options.out, progress)


def counts(text: str) -> list[int]:
    return [positive(part) for part in text.split(",")]


def share(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{value:g} is not between 0 and 1")
    return value
