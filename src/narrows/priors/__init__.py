"""Learned priors over codes, and their sampler."""

from narrows.priors.condition import Condition
from narrows.priors.continuation import continue_codes
from narrows.priors.frames import FramePixelCNN
from narrows.priors.guided import Guided, guided
from narrows.priors.pixelcnn import GatedPixelCNN
from narrows.priors.prior import CodeSpec, Prior
from narrows.priors.sampler import sample
from narrows.priors.transformer import TransformerPrior
from narrows.priors.wavenet import WaveNetPrior

__all__ = [
    "CodeSpec",
    "Condition",
    "FramePixelCNN",
    "GatedPixelCNN",
    "Guided",
    "Prior",
    "TransformerPrior",
    "WaveNetPrior",
    "continue_codes",
    "guided",
    "sample",
]
