"""The very deep VAE in plain PyTorch, as its paper describes it, for comparison in `benchmarks.hierarchy`.

R. Child, "Very Deep VAEs Generalize Autoregressive Models and Can Outperform Them on Images" (2021). The posterior has
its own mean and standard deviation, not merged with the prior's; the loss is squared error + KL.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["VeryDeepVAE"]


def conv(inputs: int, outputs: int, window: int = 1, scale: float = 1.0) -> nn.Conv2d:
    """Return a convolution that keeps the size, with initial weights multiplied by `scale` and a bias of 0."""
    layer = nn.Conv2d(inputs, outputs, window, padding=window // 2)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    layer.weight.data *= scale
    return layer


def network(inputs: int, middle: int, outputs: int, resolution: int, scale: float = 1.0) -> nn.Sequential:
    """Return GELU 1x1, GELU 3x3, GELU 3x3, GELU 1x1; below a resolution of 3 all windows are 1x1."""
    window = 3 if resolution > 2 else 1
    first, last = conv(inputs, middle), conv(middle, outputs, scale=scale)
    inner = [nn.GELU(), conv(middle, middle, window), nn.GELU(), conv(middle, middle, window)]
    return nn.Sequential(nn.GELU(), first, *inner, nn.GELU(), last)


class TopDownBlock(nn.Module):
    """A latent z of one resolution, drawn from q(z|x, activations) and added to feature map x, with prior p(z|x)."""

    def __init__(self, width: int, latents: int, middle: int, resolution: int, scale: float) -> None:
        super().__init__()
        self.sizes = [latents, latents, width]
        self.prior = network(width, middle, sum(self.sizes), resolution, scale=0)
        self.posterior = network(2 * width, middle, 2 * latents, resolution)
        self.project = conv(latents, width, scale=scale)
        self.residual = network(width, middle, width, resolution, scale)

    def forward(self, x: Tensor, activations: Tensor) -> tuple[Tensor, Tensor]:
        """Return the next feature map [B, width, R, R], and KL(q || p) in nats, [B]."""
        pm, ps, summary = self.prior(x).split(self.sizes, dim=1)  # means, log standard deviations
        qm, qs = self.posterior(torch.cat([x, activations], 1)).chunk(2, dim=1)
        z = qm + qs.exp() * torch.randn_like(qm)
        kl = ps - qs - 0.5 + 0.5 * (qs.exp() ** 2 + (qm - pm) ** 2) / ps.exp() ** 2
        x = x + summary + self.project(z)
        return x + self.residual(x), kl.sum((1, 2, 3))


class VeryDeepVAE(nn.Module):
    """VAE of RGB images with latents at several resolutions, and half as many bottom-up blocks at each, rounded up.

    Args:
        width: channels of the feature maps.
        latents: channels of every latent.
        middle: channels inside a block.
        layers: number of latent layers at each resolution, from coarse to fine.
    """

    def __init__(self, width: int, latents: int, middle: int, layers: dict[int, int]) -> None:
        super().__init__()
        counts = {resolution: (count + 1) // 2 for resolution, count in reversed(layers.items())}
        up, down = 1 / sqrt(sum(counts.values())), 1 / sqrt(sum(layers.values()))
        self.resolutions = list(layers)
        self.stem = conv(3, width, 3)
        self.bottom_up = cast(
            Sequence[Sequence[nn.Module]],
            nn.ModuleList(
                nn.ModuleList(network(width, middle, width, resolution, up) for _ in range(count))
                for resolution, count in counts.items()
            ),
        )
        self.biases = nn.ParameterList(torch.zeros(1, width, resolution, resolution) for resolution in layers)
        self.top_down = cast(
            Sequence[Sequence[nn.Module]],
            nn.ModuleList(
                nn.ModuleList(TopDownBlock(width, latents, middle, resolution, down) for _ in range(count))
                for resolution, count in layers.items()
            ),
        )
        self.gain = nn.Parameter(torch.ones(1, width, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.head = conv(width, 3)

    def forward(self, images: Tensor) -> Tensor:
        """Return squared error + KL in nats, [B], of images [B, 3, R, R] in [-1, 1] for finest resolution R."""
        x, activations = self.stem(images), {}
        for resolution, stage in zip(reversed(self.resolutions), self.bottom_up, strict=True):
            x = F.avg_pool2d(x, x.shape[-1] // resolution)
            for block in stage:
                x = x + block(x)
            activations[resolution] = x

        x, rate = images.new_zeros(len(images), x.shape[1], 1, 1), images.new_zeros(len(images))
        for resolution, bias, stage in zip(self.resolutions, self.biases, self.top_down, strict=True):
            x = F.interpolate(x, size=resolution) + bias
            for block in stage:
                x, kl = block(x, activations[resolution])
                rate = rate + kl
        return (images - self.head(self.gain * x + self.bias)).square().sum((1, 2, 3)) + rate
