"""Reports: blocks and drawings that make one self-contained HTML page."""

from narrows.report.figures import bits_bar, codebook_use, layer_bars, learning_curves
from narrows.report.methods import method_curves, method_dots
from narrows.report.metrics import read_metrics
from narrows.report.page import Block, Figure, Page, Picture, Section, Settings, Table, write_page
from narrows.report.svg import standalone

__all__ = [
    "Block",
    "Figure",
    "Page",
    "Picture",
    "Section",
    "Settings",
    "Table",
    "bits_bar",
    "codebook_use",
    "layer_bars",
    "learning_curves",
    "method_curves",
    "method_dots",
    "read_metrics",
    "standalone",
    "write_page",
]
