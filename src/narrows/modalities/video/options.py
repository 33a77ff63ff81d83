"""Command-line options and commands for video."""

from __future__ import annotations

import argparse

from narrows.arguments import add_film, add_out, add_run, add_sampling, add_scale, positive, seed

__all__ = ["add_commands", "add_options"]


def add_options(command: str, parser: argparse.ArgumentParser) -> None:
    """Add the options of a command for films."""
    if command == "evaluate":
        parser.add_argument(
            "--imagine",
            type=positive,
            metavar="N",
            help="video only: also imagine N frames after held-out ones and compare them with the real ones",
        )
        _add_guidance(parser, "video only, with --imagine: ")
    elif command in ("reconstruct", "interpolate", "sample"):
        add_film(parser)
        add_scale(parser)


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `imagine` and `record`."""
    _add_imagine(subparsers)
    _add_record(subparsers)


def _add_imagine(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    help = "imagine the frames that follow given ones under chosen actions"
    about = (
        f"{help.capitalize()}: codes drawn from the prior, then decoded. Writes films (MP4, GIF), a strip and a page."
    )
    parser = subparsers.add_parser("imagine", help=help, description=about)
    add_run(parser)
    parser.add_argument(
        "--start",
        required=True,
        metavar="CLIP[@FRAME]",
        help="the given frames: a video file, npz file or folder of frames, and the index of the first frame (0)",
    )
    parser.add_argument("--frames", type=positive, default=6, metavar="N", help="number of given frames (6)")
    parser.add_argument(
        "--actions",
        nargs="+",
        default=[],
        metavar="LIST",
        help="actions by name or number, such as forward*5,right*5; vectors as 0.5:-1; none is an unknown action. Each "
        "list is imagined by itself (one of unknown actions)",
    )
    parser.add_argument(
        "--imagine", type=positive, metavar="N", help="number of imagined frames (one for each action; 10 without)"
    )
    parser.add_argument("-n", type=positive, default=1, metavar="COUNT", help="number of draws for each list (1)")
    add_sampling(parser)
    _add_guidance(parser)
    parser.add_argument("--seed", type=seed, default=0, help="random seed (0)")
    parser.add_argument("--scale", type=positive, help="integer magnification (small films to about 240 pixels)")
    add_out(parser, "the folder to write (imagined in the run folder)")
    parser.set_defaults(run=_imagine)


def _imagine(options: argparse.Namespace, _: list[str]) -> object:
    from narrows.modalities.video.imagination import imagine
    from narrows.progress import progress
    from narrows.sampling import Sampling

    return imagine(
        options.folder,
        options.start,
        given=options.frames,
        actions=options.actions,
        imagine=options.imagine,
        n=options.n,
        out=options.out,
        sampling=Sampling(options.temperature, options.top_k, options.top_p, options.seed),
        guidance=options.guidance or 0.0,
        scale=options.scale,
        progress=progress,
    )


def _add_guidance(parser: argparse.ArgumentParser, whose: str = "") -> None:
    """Add --guidance."""
    help = f"{whose}follow actions more strongly than the data do, by a weight such as 0.5, at twice the work (0)"
    parser.add_argument("--guidance", type=float, metavar="W", help=help)


def _add_record(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    help = "record first-person video with its actions from ViZDoom"
    about = "Record first-person video with its actions from ViZDoom, into an npz file."
    parser = subparsers.add_parser("record", help=help, description=about)
    parser.add_argument("--scenario", default="my_way_home", help="a scenario of ViZDoom, or a .cfg file (my_way_home)")
    parser.add_argument("--frames", type=positive, default=3000, metavar="N", help="number of frames (3000)")
    parser.add_argument("--size", type=positive, default=84, metavar="PIXELS", help="height and width of a frame (84)")
    parser.add_argument(
        "--actions",
        nargs="+",
        default=["left", "right", "forward"],
        metavar="ACTION",
        help="the actions: left, right, forward, back, strafe_left, strafe_right, attack, use (the first three)",
    )
    parser.add_argument(
        "--policy",
        choices=("random", "forward"),
        default="random",
        help="choose all actions equally often, or forward half of the time (random)",
    )
    parser.add_argument(
        "--tics", type=positive, default=4, metavar="N", help="game tics, of 1/35 s, of an action and a frame (4)"
    )
    parser.add_argument(
        "--hold", type=positive, default=8, metavar="N", help="repeat an action for 1 to N frames, at random (8)"
    )
    parser.add_argument(
        "--episode", type=positive, default=100, metavar="N", help="the most frames of an episode (100)"
    )
    parser.add_argument("--seed", type=seed, default=0, help="random seed (0)")
    add_out(parser, "the .npz file to write", required=True)
    parser.set_defaults(run=_record)


def _record(options: argparse.Namespace, _: list[str]) -> object:
    from narrows.modalities.video.record import RecordingSettings, record
    from narrows.progress import progress

    settings = RecordingSettings(
        options.scenario,
        options.frames,
        options.size,
        options.actions,
        options.policy,
        options.tics,
        options.hold,
        options.episode,
        options.seed,
    )
    return record(options.out, settings, progress)
