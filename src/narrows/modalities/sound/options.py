"""Command-line options and commands for sound."""

from __future__ import annotations

import argparse
from pathlib import Path

from narrows.arguments import add_decoding, add_out, add_run, positive

__all__ = ["add_commands", "add_options"]


def add_options(command: str, parser: argparse.ArgumentParser) -> None:
    """Add the options of a command that are for sound only."""
    if command == "evaluate":
        parser.add_argument(
            "--phonemes",
            type=Path,
            metavar="TABLE",
            help="sound only: measure how well the codes predict the phonemes in TABLE",
        )
        parser.add_argument(
            "--reconstruct",
            type=positive,
            metavar="N",
            help="sound only: also decode N clips and compare their spectra with the originals",
        )
    elif command in ("decode", "reconstruct", "interpolate", "sample"):
        parser.add_argument("--speaker", dest="label", metavar="NAME", help="sound only: the speaker; same as --class")


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `convert-voice`."""
    help = "convert a sound file to another speaker's voice"
    parser = subparsers.add_parser("convert-voice", help=help, description=f"{help.capitalize()}.")
    add_run(parser)
    parser.add_argument("file", type=Path, metavar="IN", help="the sound file, of any sample rate and length")
    parser.add_argument("--to", required=True, metavar="SPEAKER", help="a speaker that the model was trained on")
    add_out(parser, "the .wav file to write", required=True)
    add_decoding(parser)
    parser.set_defaults(run=_convert_voice)


def _convert_voice(options: argparse.Namespace, _: list[str]) -> object:
    from narrows.decoding import decoding_of
    from narrows.modalities.sound.convert import convert_voice
    from narrows.progress import progress

    return convert_voice(options.folder, options.file, options.to, options.out, decoding_of(options), progress)
