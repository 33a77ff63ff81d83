"""Figures of a trained model on data it has not seen."""

from narrows.evaluation.bits import Measurement, measure, measure_prior, squared_error
from narrows.evaluation.gradients import gradient_noise
from narrows.evaluation.mel import log_mel, log_mel_distance
from narrows.evaluation.phonemes import PhonemeMap
from narrows.evaluation.sound import decode_shown, in_random_order, measure_reconstructions, measure_sound, speakers_of

__all__ = [
    "Measurement",
    "PhonemeMap",
    "decode_shown",
    "gradient_noise",
    "in_random_order",
    "log_mel",
    "log_mel_distance",
    "measure",
    "measure_prior",
    "measure_reconstructions",
    "measure_sound",
    "speakers_of",
    "squared_error",
]
