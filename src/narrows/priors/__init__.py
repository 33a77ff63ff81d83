"""Learned priors over codes, and their sampler."""

from narrows.priors.pixelcnn import GatedPixelCNN
from narrows.priors.prior import CodeSpec, Prior
from narrows.priors.sampler import sample

__all__ = ["CodeSpec", "GatedPixelCNN", "Prior", "sample"]
