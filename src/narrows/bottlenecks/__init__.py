"""Bottlenecks: features [B, C, *grid] to a posterior over latents."""

from narrows.bottlenecks.codebook import (
    Codebook,
    CodebookCare,
    CosineCodebook,
    EMACodebook,
    KMeansStart,
    LearntCodebook,
    RestartUnused,
)
from narrows.bottlenecks.gaussian import Gaussian, GaussianPosterior
from narrows.bottlenecks.posterior import Bottleneck, DiscreteBottleneck, Draw, Posterior
from narrows.bottlenecks.vector import FactorizedQuantizer, VectorPosterior, VectorQuantizer

__all__ = [
    "Bottleneck",
    "Codebook",
    "CodebookCare",
    "CosineCodebook",
    "DiscreteBottleneck",
    "Draw",
    "EMACodebook",
    "FactorizedQuantizer",
    "Gaussian",
    "GaussianPosterior",
    "KMeansStart",
    "LearntCodebook",
    "Posterior",
    "RestartUnused",
    "VectorPosterior",
    "VectorQuantizer",
]
