"""What each command of `narrows` does, as functions."""

from narrows.commands.compare import Budget, Comparison, compare
from narrows.commands.curve import Sweep, curve
from narrows.commands.generate import interpolate, sample_images
from narrows.commands.measure import evaluate
from narrows.commands.source import placed
from narrows.commands.train import fit_prior, show_recipe, train
from narrows.commands.transcode import decode, encode, reconstruct

__all__ = [
    "Budget",
    "Comparison",
    "Sweep",
    "compare",
    "curve",
    "decode",
    "encode",
    "evaluate",
    "fit_prior",
    "interpolate",
    "placed",
    "reconstruct",
    "sample_images",
    "show_recipe",
    "train",
]
