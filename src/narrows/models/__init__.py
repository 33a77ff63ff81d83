"""Parts put together: models with bounds on log p(x)."""

from narrows.models.autoencoder import Autoencoder

__all__ = ["Autoencoder"]
