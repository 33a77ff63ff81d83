"""What each command of `narrows` does, as functions."""

from narrows.commands.compare import Budget, Comparison, compare
from narrows.commands.curve import Sweep, curve
from narrows.commands.generate import interpolate
from narrows.commands.measure import evaluate
from narrows.commands.media import decode, encode, reconstruct, sample
from narrows.commands.source import placed
from narrows.commands.train import fit_prior, show_recipe, train
from narrows.modalities.sound.transcode import convert_voice

__all__ = [
    "Budget",
    "Comparison",
    "Sweep",
    "compare",
    "convert_voice",
    "curve",
    "decode",
    "encode",
    "evaluate",
    "fit_prior",
    "interpolate",
    "placed",
    "reconstruct",
    "sample",
    "show_recipe",
    "train",
]
