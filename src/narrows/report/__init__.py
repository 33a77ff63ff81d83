"""The report of a run: blocks, drawings and pictures that make one self-contained HTML page."""

from narrows.report.figures import bits_bar, codebook_use, layer_bars, learning_curves
from narrows.report.methods import method_curves, method_dots
from narrows.report.metrics import read_metrics
from narrows.report.page import Block, Figure, Page, Picture, Section, Settings, Table, write_page
from narrows.report.phonemes import code_phoneme_map
from narrows.report.pictures import grid, interpolation, pairs
from narrows.report.sounds import Clip, Sounds
from narrows.report.svg import standalone

__all__ = [
    "Block",
    "Clip",
    "Figure",
    "Page",
    "Picture",
    "Section",
    "Settings",
    "Sounds",
    "Table",
    "bits_bar",
    "code_phoneme_map",
    "codebook_use",
    "grid",
    "interpolation",
    "layer_bars",
    "learning_curves",
    "method_curves",
    "method_dots",
    "pairs",
    "read_metrics",
    "standalone",
    "write_page",
]
