"""Multilayer perceptrons: an image in one vector of features, without a grid (Kingma and Welling 2014, appendix C).

Here with ReLU units, and weights from the normal distribution that keeps the size of their features over the layers
(He et al. 2015), for an image's features have to differ from another's before a rounding tells them apart. The latents
have no positions: a code is of the whole image.
"""

from __future__ import annotations

from itertools import pairwise
from math import prod

from torch import Tensor, nn

from narrows.errors import NarrowsError

__all__ = ["MLPDecoder", "MLPEncoder"]


class MLPEncoder(nn.Module):
    """Images [B, inputs, *size] in [-1, 1] -> features [B, outputs].

    Args:
        inputs: image channels.
        outputs: feature channels.
        size: of the images, such as [28, 28].
        width: units of a hidden layer.
        layers: hidden layers.

    Raises:
        NarrowsError: if `size`, `width` or `layers` is not of positive numbers.
    """

    def __init__(self, inputs: int, outputs: int, size: list[int], width: int = 256, layers: int = 2) -> None:
        super().__init__()
        self.shape = (inputs, *size)
        self.layers = _perceptron(prod(self.shape), outputs, size, width, layers)

    def forward(self, x: Tensor) -> Tensor:
        """Encode images.

        Raises:
            NarrowsError: if they are of another size.
        """
        if x.shape[1:] != self.shape:
            raise NarrowsError(
                f"MLPEncoder.size is {list(self.shape[1:])}, but the images [B, C, *size] are {list(x.shape)}: "
                "set size to that of the data"
            )
        # Back to [0, 1]: on binary pixels ReLU units learn 3 to 16 nats less from {-1, 1} than from {0, 1} (MNIST).
        return self.layers((x.flatten(1) + 1) / 2)


class MLPDecoder(nn.Module):
    """Latents [B, inputs] -> likelihood parameters [B, outputs, *size].

    Args:
        inputs: latent channels.
        outputs: the channels that the likelihood reads.
        size: of the images, such as [28, 28].
        width: units of a hidden layer.
        layers: hidden layers.

    Raises:
        NarrowsError: if `size`, `width` or `layers` is not of positive numbers.
    """

    def __init__(self, inputs: int, outputs: int, size: list[int], width: int = 256, layers: int = 2) -> None:
        super().__init__()
        self.inputs, self.shape = inputs, (outputs, *size)
        self.layers = _perceptron(inputs, prod(self.shape), size, width, layers)

    def forward(self, z: Tensor) -> Tensor:
        """Decode latents.

        Raises:
            NarrowsError: if they are on a grid, or have other than `inputs` channels.
        """
        if z.shape[1:] != (self.inputs,):
            raise NarrowsError(
                f"MLPDecoder reads latents [B, {self.inputs}], not {list(z.shape)}: "
                "give it an encoder without a grid, such as MLPEncoder, and the bottleneck's `channels`"
            )
        return self.layers(z).unflatten(1, self.shape)


def _perceptron(inputs: int, outputs: int, size: list[int], width: int, layers: int) -> nn.Sequential:
    if not size or min(*size, width, layers) < 1:
        raise NarrowsError(f"size must be such as [28, 28], and width and layers at least 1: {size}, {width}, {layers}")
    linear = [nn.Linear(before, after) for before, after in pairwise([inputs, *[width] * layers, outputs])]
    for layer in linear:
        nn.init.zeros_(layer.bias)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="linear" if layer is linear[-1] else "relu")
    return nn.Sequential(linear[0], *(part for layer in linear[1:] for part in (nn.ReLU(), layer)))
