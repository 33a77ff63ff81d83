"""Parts put together: models with bounds on log p(x)."""

from narrows.models.autoencoder import Autoencoder
from narrows.models.export import CodesOf, DataOf
from narrows.models.latent import LatentVariableModel
from narrows.models.stacked import Stacked
from narrows.models.two_stage import TwoStage, TwoStagePosterior

__all__ = [
    "Autoencoder",
    "CodesOf",
    "DataOf",
    "LatentVariableModel",
    "Stacked",
    "TwoStage",
    "TwoStagePosterior",
]
