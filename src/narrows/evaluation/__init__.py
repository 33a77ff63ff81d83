"""Figures of a trained model on held-out data."""

from narrows.evaluation.bits import Measurement, measure, measure_prior, squared_error
from narrows.evaluation.gradients import gradient_noise

__all__ = ["Measurement", "gradient_noise", "measure", "measure_prior", "squared_error"]
