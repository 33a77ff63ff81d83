"""Variational and discrete autoencoders with learned priors; every figure in bits.

model = narrows.load("runs/vqvae-images")
codes = model.encode(x)          # x [B, C, H, W] in [0, 1]
images = model.decode(codes)
new = model.sample(16)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from narrows.errors import NarrowsError
    from narrows.models import Autoencoder
    from narrows.pretrained import load
    from narrows.sampling import Sampling

__all__ = ["Autoencoder", "NarrowsError", "Sampling", "load"]

_HOMES = {
    "Autoencoder": "narrows.models",
    "NarrowsError": "narrows.errors",
    "Sampling": "narrows.sampling",
    "load": "narrows.pretrained",
}


def __getattr__(name: str) -> Any:
    """Import PyTorch only once something that needs it is asked for, so that the command line answers at once."""
    if name not in _HOMES:
        raise AttributeError(f"module 'narrows' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
