"""Parts put together: models with bounds on log p(x)."""

from narrows.models.autoencoder import Autoencoder
from narrows.models.sound import SoundAutoencoder
from narrows.models.two_stage import TwoStage, TwoStagePosterior

__all__ = ["Autoencoder", "SoundAutoencoder", "TwoStage", "TwoStagePosterior"]
