"""Figures of a trained model on data it has not seen."""

from narrows.evaluation.bits import Measurement, measure, measure_prior
from narrows.evaluation.codebook import code_counts, perplexity, share_in_use

__all__ = ["Measurement", "code_counts", "measure", "measure_prior", "perplexity", "share_in_use"]
