"""Figures of a trained model on data it has not seen."""

from narrows.evaluation.bits import Measurement, measure, measure_prior

__all__ = ["Measurement", "measure", "measure_prior"]
