"""Command-line options and commands for motion."""

from __future__ import annotations

import argparse
from pathlib import Path

from narrows.arguments import add_out, add_run, positive, seed

__all__ = ["add_commands", "add_options"]


def add_options(command: str, parser: argparse.ArgumentParser) -> None:
    """Add the options of a command that are for motion only."""
    if command in ("reconstruct", "interpolate", "sample"):
        parser.add_argument(
            "--film", choices=("gif", "mp4"), help="motion only: also write a film of each; mp4 needs narrows[motion]"
        )


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `continue`."""
    help = "continue a motion with codes drawn from the prior"
    parser = subparsers.add_parser("continue", help=help, description=f"{help.capitalize()}.")
    add_run(parser)
    parser.add_argument("file", type=Path, metavar="FILE", help="the motion, a BVH file or a table")
    parser.add_argument("--frames", type=positive, required=True, metavar="N", help="number of new frames")
    parser.add_argument("-n", type=positive, default=1, metavar="COUNT", help="number of continuations (1)")
    parser.add_argument(
        "--class", dest="label", metavar="CLASS", help="name or number of the class to continue as (the only one)"
    )
    parser.add_argument(
        "--temperature", type=float, default=1.0, metavar="T", help="sampling temperature; below 1, codes vary less (1)"
    )
    parser.add_argument("--top-k", type=positive, metavar="K", help="only the K most probable values of each code")
    parser.add_argument(
        "--top-p", type=float, metavar="P", help="only the most probable values of each code that together reach P"
    )
    parser.add_argument("--seed", type=seed, default=0, help="random seed (0)")
    add_out(parser, "the folder to write (continued in the run folder)")
    parser.set_defaults(run=_continue)


def _continue(options: argparse.Namespace, _: list[str]) -> object:
    from narrows.modalities.motion.continuation import continue_motion
    from narrows.progress import progress
    from narrows.sampling import Sampling

    return continue_motion(
        options.folder,
        options.file,
        options.frames,
        n=options.n,
        out=options.out,
        sampling=Sampling(options.temperature, options.top_k, options.top_p, options.seed),
        label=options.label,
        progress=progress,
    )
