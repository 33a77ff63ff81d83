"""Command-line options and commands for motion."""

from __future__ import annotations

import argparse
from pathlib import Path

from narrows.arguments import add_film, add_out, add_run, add_sampling, positive, seed

__all__ = ["add_commands", "add_options"]


def add_options(command: str, parser: argparse.ArgumentParser) -> None:
    """Add the options of a command that are for motion only."""
    if command in ("reconstruct", "interpolate", "sample"):
        add_film(parser)


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `continue`, `search` and `track`."""
    _add_continue(subparsers)
    _add_search(subparsers)
    _add_track(subparsers)


def _add_continue(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    help = "continue a motion with codes drawn from the prior"
    parser = subparsers.add_parser("continue", help=help, description=f"{help.capitalize()}.")
    add_run(parser)
    parser.add_argument("file", type=Path, metavar="FILE", help="the motion, a BVH file or a table")
    parser.add_argument("--frames", type=positive, required=True, metavar="N", help="number of new frames")
    parser.add_argument("-n", type=positive, default=1, metavar="COUNT", help="number of continuations (1)")
    parser.add_argument(
        "--class", dest="label", metavar="CLASS", help="name or number of the class to continue as (the only one)"
    )
    add_sampling(parser)
    parser.add_argument("--seed", type=seed, default=0, help="random seed (0)")
    add_film(parser)
    add_out(parser, "the folder to write (continued in the run folder)")
    parser.set_defaults(run=_continue)


def _add_search(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    help = "search for motions that meet a goal"
    about = f"{help.capitalize()}: a path, a place, a heading, a pose or a velocity, in a YAML file or a path as CSV."
    parser = subparsers.add_parser("search", help=help, description=about)
    add_run(parser)
    parser.add_argument("--goal", type=Path, required=True, metavar="FILE", help="the YAML or CSV file with the goal")
    parser.add_argument("-n", type=positive, default=6, metavar="N", help="number of motions to keep (6)")
    parser.add_argument("--decodings", type=positive, default=4000, help="candidates to decode, at most (4000)")
    parser.add_argument("--rounds", type=positive, default=16, help="rounds of the search (16)")
    parser.add_argument(
        "--ess-target",
        type=float,
        default=0.05,
        metavar="SHARE",
        help="effective sample size of the weights, as a share of the candidates of a round (0.05)",
    )
    parser.add_argument(
        "--tilt",
        type=float,
        default=1.0,
        metavar="W",
        help="largest weight of good candidates in the next round's proposal; 0 draws from the prior alone (1)",
    )
    parser.add_argument(
        "--support",
        type=float,
        default=0.2,
        metavar="COST",
        help="cost of each bit of -log2 p(z), in cm or degrees; above 0 favours probable motions (0.2)",
    )
    parser.add_argument("--class", dest="label", metavar="CLASS", help="name or number of a class (all)")
    add_sampling(parser)
    parser.add_argument("--seed", type=seed, default=0, help="random seed (0)")
    add_film(parser)
    add_out(parser, "the folder to write (found in the run folder)")
    parser.set_defaults(run=_search)


def _add_track(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    help = "follow decoded motions of a robot in simulation"
    about = f"{help.capitalize()}, beside the originals: time until a fall and errors. Needs narrows[robots]."
    parser = subparsers.add_parser("track", help=help, description=about)
    add_run(parser)
    parser.add_argument(
        "--split", choices=("test", "validation", "train"), default="test", help="the motions to follow (test)"
    )
    parser.add_argument("--seconds", type=float, default=4.0, metavar="S", help="length of a window (4)")
    parser.add_argument("--limit", type=positive, default=20, metavar="N", help="number of windows, at most (20)")
    parser.add_argument(
        "--control",
        choices=("pd", "feedforward", "balance"),
        default="balance",
        help="springs and dampers alone, with the torques of the motion, or with those that also bring the root back "
        "(balance)",
    )
    parser.add_argument(
        "--assist",
        type=float,
        default=0.0,
        metavar="N/M",
        help="stiffness of a spring that holds the root from outside, which no robot has (0)",
    )
    add_film(parser)
    add_out(parser, "the folder to write (tracked in the run folder)")
    parser.set_defaults(run=_track)


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
        film=options.film,
        progress=progress,
    )


def _search(options: argparse.Namespace, _: list[str]) -> object:
    from narrows.modalities.motion.reach import reach
    from narrows.modalities.motion.search import SearchSettings
    from narrows.progress import progress
    from narrows.sampling import Sampling

    settings = SearchSettings(
        options.decodings,
        options.rounds,
        ess_target=options.ess_target,
        tilt=options.tilt,
        support=options.support,
        keep=options.n,
        seed=options.seed,
    )
    sampling = Sampling(options.temperature, options.top_k, options.top_p)
    found = reach(
        options.folder,
        options.goal,
        options.out,
        settings,
        sampling,
        options.label,
        film=options.film,
        progress=progress,
    )
    return str(found)


def _track(options: argparse.Namespace, _: list[str]) -> object:
    from narrows.modalities.motion.track_run import track_run
    from narrows.modalities.motion.tracking import Control
    from narrows.progress import progress

    return track_run(
        options.folder,
        split=options.split,
        seconds=options.seconds,
        limit=options.limit,
        control=Control(options.control, assist=options.assist),
        film=options.film,
        out=options.out,
        progress=progress,
    )
