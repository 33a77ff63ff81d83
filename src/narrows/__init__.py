"""Variational and discrete autoencoders with learned priors; every figure in bits.

model = narrows.load("runs/vqvae-images")
codes = model.encode(x)          # x [B, C, H, W] in [0, 1]
images = model.decode(codes)
new = model.sample(16)
"""

from narrows.errors import NarrowsError
from narrows.models import Autoencoder
from narrows.pretrained import load

__all__ = ["Autoencoder", "NarrowsError", "load"]
