"""Transformer encoder over image patches: the recognition network of DAPS, with features on the grid of the patches.

M. Drolet et al., "Discrete Variational Autoencoding via Policy Search"; patches: A. Dosovitskiy et al., "An Image is
Worth 16x16 Words" (2021); sinusoids: A. Vaswani et al., "Attention Is All You Need" (2017), section 3.5.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn

from narrows.errors import NarrowsError

__all__ = ["PatchTransformer", "check_heads", "sinusoids"]


class PatchTransformer(nn.Module):
    """Map images [B, inputs, H, W] to features [B, outputs, H / patch, W / patch].

    Patches without overlap are embedded linearly, with sinusoidal positions so that one network accepts images of any
    size. Transformer layers, each with a norm first, a final norm and a linear map follow.

    Args:
        inputs: image channels.
        outputs: feature channels.
        patch: side of a patch in pixels.
        width: features of a patch inside the network.
        layers: transformer layers.
        heads: attention heads of a layer, which divide the width.

    Raises:
        NarrowsError: if a size is below 1, or `heads` does not divide `width`.
    """

    def __init__(
        self, inputs: int, outputs: int, patch: int = 4, width: int = 128, layers: int = 2, heads: int = 4
    ) -> None:
        super().__init__()
        if min(patch, layers) < 1:
            raise NarrowsError(f"patch and layers must be at least 1, not {patch} and {layers}")
        check_heads(width, heads)
        self.patch, self.width = patch, width
        self.embed = nn.Conv2d(inputs, width, patch, stride=patch)
        self.layers = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
                for _ in range(layers)
            ),
            nn.LayerNorm(width),
            nn.Linear(width, outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the features of images.

        Raises:
            NarrowsError: if the height or the width is not a multiple of `patch`.
        """
        height, width = x.shape[2:]
        if height % self.patch or width % self.patch:
            raise NarrowsError(
                f"images of {height}x{width} do not split into patches of {self.patch}x{self.patch}: set data.size to "
                "a multiple of the encoder's patch, or the patch to a divisor of the size"
            )
        patches = self.embed(x)
        grid = patches.shape[2:]
        tokens = patches.flatten(2).transpose(1, 2) + sinusoids(grid, self.width, x.device)
        return self.layers(tokens).transpose(1, 2).unflatten(2, grid)


def sinusoids(grid: tuple[int, ...], width: int, device: torch.device | None = None) -> Tensor:
    """Return sinusoidal embeddings of the positions of a grid with any number of axes, in row order: [N, width].

    Each axis has an equal number of features, half of them sines and half cosines, of wavelengths from 2 pi to 10,000
    times 2 pi. Any remaining features are zero; a grid without axes has one position, of zeros.
    """
    share = width // max(2 * len(grid), 1)
    frequencies = 10_000.0 ** -(torch.arange(share, device=device) / max(share, 1))
    positions = torch.arange(prod(grid), device=device)
    waves = [torch.zeros(len(positions), width - 2 * share * len(grid), device=device)]
    for axis, size in enumerate(grid):
        along = positions // prod(grid[axis + 1 :]) % size
        angles = along.unsqueeze(1) * frequencies
        waves += [angles.sin(), angles.cos()]
    return torch.cat(waves, 1)


def check_heads(width: int, heads: int) -> None:
    """Check that the number of attention heads divides the width.

    Raises:
        NarrowsError: if it does not, or either is below 1.
    """
    if min(width, heads) < 1 or width % heads:
        raise NarrowsError(f"heads must divide width, both at least 1: got heads {heads} and width {width}")
