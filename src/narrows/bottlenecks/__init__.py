"""Bottlenecks: features [B, C, *grid] to a posterior over latents."""

from narrows.bottlenecks.autoregressive import Autoregressive, AutoregressivePosterior
from narrows.bottlenecks.categorical import Categorical, CategoricalPosterior
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
from narrows.bottlenecks.hierarchy import HierarchicalPosterior, Hierarchy
from narrows.bottlenecks.posterior import (
    Bottleneck,
    CodePosterior,
    DiscreteBottleneck,
    Draw,
    Posterior,
    SampledPosterior,
)
from narrows.bottlenecks.residual import ResidualQuantizer
from narrows.bottlenecks.scalar import FSQ
from narrows.bottlenecks.top_down import LayerDistributions, TopDown
from narrows.bottlenecks.vector import FactorizedQuantizer, VectorQuantizer

__all__ = [
    "FSQ",
    "Autoregressive",
    "AutoregressivePosterior",
    "Bottleneck",
    "Categorical",
    "CategoricalPosterior",
    "CodePosterior",
    "Codebook",
    "CodebookCare",
    "CosineCodebook",
    "DiscreteBottleneck",
    "Draw",
    "EMACodebook",
    "FactorizedQuantizer",
    "Gaussian",
    "GaussianPosterior",
    "HierarchicalPosterior",
    "Hierarchy",
    "KMeansStart",
    "LayerDistributions",
    "LearntCodebook",
    "Posterior",
    "ResidualQuantizer",
    "RestartUnused",
    "SampledPosterior",
    "TopDown",
    "VectorQuantizer",
]
