"""Strided convolutional encoder and decoder with residual blocks (van den Oord et al. 2017, section 4.1)."""

from __future__ import annotations

from torch import Tensor, nn

from narrows.errors import NarrowsError

__all__ = ["ConvDecoder", "ConvEncoder", "ResidualBlock"]


class ResidualBlock(nn.Module):
    """x + conv1x1(ReLU(conv3x3(ReLU(x)))), [B, width, H, W] -> [B, width, H, W].

    Args:
        width: input and output channels.
        hidden: channels between the two convolutions.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(width, hidden, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return x plus the branch of x."""
        return x + self.branch(x)


class ConvEncoder(nn.Module):
    """Images [B, inputs, H, W] -> features [B, outputs, H / 2^n, W / 2^n], with n = `downsamplings`.

    n convolutions of window 4 and stride 2, then `blocks` residual blocks, then a 1x1 convolution to the input of the
    bottleneck.

    Args:
        inputs: image channels.
        outputs: feature channels.
        width: hidden channels (256 in the paper).
        downsamplings: n, the number of stride-2 convolutions (2 in the paper).
        blocks: number of residual blocks (2 in the paper).
        residual_width: channels inside a residual block; None for `width`, as in the paper.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        width: int = 256,
        downsamplings: int = 2,
        blocks: int = 2,
        residual_width: int | None = None,
    ) -> None:
        super().__init__()
        _check_sizes(width, downsamplings, blocks)
        layers: list[nn.Module] = []
        for channels in [inputs] + [width] * (downsamplings - 1):
            layers += [nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.ReLU()]
        self.layers = nn.Sequential(
            *layers,
            nn.Conv2d(width, width, 3, padding=1),
            *(ResidualBlock(width, residual_width or width) for _ in range(blocks)),
            nn.ReLU(),
            nn.Conv2d(width, outputs, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Encode images."""
        return self.layers(x)


class ConvDecoder(nn.Module):
    """Latents [B, inputs, h, w] -> likelihood parameters [B, outputs, 2^n h, 2^n w], with n = `upsamplings`.

    A 3x3 convolution to the width, `blocks` residual blocks, then n transposed convolutions of window 4 and stride 2.

    Args:
        inputs: latent channels.
        outputs: channels of the likelihood parameters.
        width: hidden channels (256 in the paper).
        upsamplings: n, the number of stride-2 transposed convolutions (2 in the paper).
        blocks: number of residual blocks (2 in the paper).
        residual_width: channels inside a residual block; None for `width`, as in the paper.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        width: int = 256,
        upsamplings: int = 2,
        blocks: int = 2,
        residual_width: int | None = None,
    ) -> None:
        super().__init__()
        _check_sizes(width, upsamplings, blocks)
        layers: list[nn.Module] = []
        for channels in [width] * (upsamplings - 1) + [outputs]:
            layers += [nn.ReLU(), nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1)]
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, width, 3, padding=1),
            *(ResidualBlock(width, residual_width or width) for _ in range(blocks)),
            *layers,
        )

    def forward(self, z: Tensor) -> Tensor:
        """Decode latents."""
        return self.layers(z)


def _check_sizes(width: int, strides: int, blocks: int) -> None:
    if width < 1 or strides < 1 or blocks < 0:
        raise NarrowsError(
            f"width is {width}, downsamplings or upsamplings {strides} and blocks {blocks}: the first two must be at "
            "least 1, and blocks at least 0"
        )
