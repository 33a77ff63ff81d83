"""Figures of a trained model on data it has not seen."""

from narrows.evaluation.bits import Measurement, measure, measure_prior, squared_error
from narrows.evaluation.gradients import gradient_noise

__all__ = ["Measurement", "gradient_noise", "measure", "measure_prior", "squared_error"]
