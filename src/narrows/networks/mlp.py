"""Multilayer perceptrons: one feature vector for a whole image, without a grid (Kingma and Welling 2014, appendix C).

The hidden units are ReLUs, and the weights are initialised from the normal distribution that keeps the scale of the
features through the layers (He et al. 2015): features of different images must differ enough that quantisation does not
map them to one code.
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
        size: size of the images, such as [28, 28].
        width: units of a hidden layer.
        layers: number of hidden layers.

    Raises:
        NarrowsError: if `size` is empty, or a number in `size`, `width` or `layers` is below 1.
    """

    def __init__(self, inputs: int, outputs: int, size: list[int], width: int = 256, layers: int = 2) -> None:
        super().__init__()
        self.shape = (inputs, *size)
        self.layers = _perceptron(prod(self.shape), outputs, size, width, layers)

    def forward(self, x: Tensor) -> Tensor:
        """Encode images.

        Raises:
            NarrowsError: if the images do not have the size `size`.
        """
        if x.shape[1:] != self.shape:
            raise NarrowsError(
                f"MLPEncoder.size is {list(self.shape[1:])}, but the images [B, C, *size] are {list(x.shape)}: "
                "set size to the size of the data"
            )
        # Back to [0, 1]: on binary MNIST, ReLU units do 3 to 16 nats worse with {-1, 1} than with {0, 1}.
        return self.layers((x.flatten(1) + 1) / 2)


class MLPDecoder(nn.Module):
    """Latents [B, inputs] -> likelihood parameters [B, outputs, *size].

    Args:
        inputs: latent channels.
        outputs: channels of the likelihood parameters.
        size: size of the images, such as [28, 28].
        width: units of a hidden layer.
        layers: number of hidden layers.

    Raises:
        NarrowsError: if `size` is empty, or a number in `size`, `width` or `layers` is below 1.
    """

    def __init__(self, inputs: int, outputs: int, size: list[int], width: int = 256, layers: int = 2) -> None:
        super().__init__()
        self.inputs, self.shape = inputs, (outputs, *size)
        self.layers = _perceptron(inputs, prod(self.shape), size, width, layers)

    def forward(self, z: Tensor) -> Tensor:
        """Decode latents.

        Raises:
            NarrowsError: if the latents are on a grid or do not have `inputs` channels.
        """
        if z.shape[1:] != (self.inputs,):
            raise NarrowsError(
                f"MLPDecoder reads latents [B, {self.inputs}], not {list(z.shape)}: "
                "use an encoder without a grid, such as MLPEncoder, and set inputs to the bottleneck's channels"
            )
        return self.layers(z).unflatten(1, self.shape)


def _perceptron(inputs: int, outputs: int, size: list[int], width: int, layers: int) -> nn.Sequential:
    if not size or min(*size, width, layers) < 1:
        raise NarrowsError(
            f"size is {size}, width {width} and layers {layers}: size must be such as [28, 28], and width and "
            "layers at least 1"
        )
    linear = [nn.Linear(before, after) for before, after in pairwise([inputs, *[width] * layers, outputs])]
    for layer in linear:
        nn.init.zeros_(layer.bias)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="linear" if layer is linear[-1] else "relu")
    return nn.Sequential(linear[0], *(part for layer in linear[1:] for part in (nn.ReLU(), layer)))
