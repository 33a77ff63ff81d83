"""One layer of the very deep VAE: a prior and a posterior computed from the feature map, and a latent added to it.

R. Child, "Very Deep VAEs Generalize Autoregressive Models and Can Outperform Them on Images" (2021), section 3.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from narrows.bottlenecks.diagonal import DiagonalGaussian
from narrows.networks.hierarchy import Branch, ResidualBranch, convolution

__all__ = ["StochasticBlock", "Terms"]

FIRST_LOG_VARIANCE = 4.0
"""Initial log-variance of the evidence: its precision, and so the rate, is small compared with the prior's."""


class Terms(NamedTuple):
    """The terms of one layer in nats, [N] each. They are not stacked: those that a loss leaves out need no gradient."""

    kl: Tensor
    """KL(q(z_l|z_<l, x) || p(z_l|z_<l))."""
    log_q: Tensor
    """log q(z_l|z_<l, x)."""
    log_p: Tensor
    """log p(z_l|z_<l)."""


class StochasticBlock(nn.Module):
    """One layer of the top-down pass: a latent z_l at resolution R with its prior and posterior, added to the features.

    Args:
        width: channels of the feature map.
        latents: channels of z_l.
        middle: channels inside the layer's networks.
        resolution: R.
        gain: 1 / sqrt(L) for L layers: the initial scale of what a layer adds to the feature map.
    """

    def __init__(self, width: int, latents: int, middle: int, resolution: int, gain: float) -> None:
        super().__init__()
        self.latents, self.resolution = latents, resolution
        # The last convolution starts at zero, so every prior starts as N(0, I) and every posterior near it.
        self.prior = Branch(width, middle, 2 * latents + width, resolution, gain=0)
        self.inference = Branch(2 * width, middle, 2 * latents, resolution)
        nn.init.constant_(self.inference.layers[-1].bias[latents:], FIRST_LOG_VARIANCE)  # type: ignore[index]
        self.project = convolution(latents, width, gain=gain)
        self.residual = ResidualBranch(width, middle, resolution, gain)

    def forward(self, x: Tensor, activations: Tensor, noise: Tensor) -> tuple[Tensor, Terms]:
        """Draw a latent from the posterior and add it to the feature map.

        Args:
            x: feature map of all previous latents, [N, width, R, R].
            activations: activations of the bottom-up network at this resolution, after their GELU, [N, width, R, R].
            noise: z_l in standard deviations from the posterior's mean, [N, latents, R, R] or broadcastable to it.

        Returns:
            The next feature map, and the terms of the layer.
        """
        prior, posterior, x = self._read(x, activations)
        inner = posterior.at(noise)
        return self.add(x, prior.at(inner)), _terms(prior, posterior, inner, noise)

    def follow(self, x: Tensor, activations: Tensor, z: Tensor) -> tuple[Tensor, Terms]:
        """Add a given latent z [N, latents, R, R] to the feature map; returns the same as `forward`."""
        prior, posterior, x = self._read(x, activations)
        inner = prior.noise(z)
        return self.add(x, z), _terms(prior, posterior, inner, posterior.noise(inner))

    def generate(self, x: Tensor, noise: Tensor) -> Tensor:
        """Add a latent from the prior, `noise` standard deviations from its mean, to the feature map x."""
        prior, x = self.prior_at(x)
        return self.add(x, prior.at(noise))

    def noise(self, x: Tensor) -> Tensor:
        """Draw standard normal noise for the latent of the feature map x, [N, latents, R, R]."""
        return torch.randn(len(x), self.latents, *x.shape[2:], device=x.device)

    def prior_at(self, x: Tensor) -> tuple[DiagonalGaussian, Tensor]:
        """Return p(z_l|z_<l) for the feature map x of z_<l, and the feature map to add z_l to."""
        return self._prior(x, F.gelu(x))

    def distributions(self, x: Tensor, activations: Tensor) -> tuple[DiagonalGaussian, DiagonalGaussian, Tensor]:
        """Return p(z_l|z_<l), q(z_l|z_<l, x) and the feature map to add z_l to."""
        prior, posterior, following = self._read(x, activations)
        return prior, prior.placed(posterior), following

    def add(self, x: Tensor, z: Tensor) -> Tensor:
        """Return the next feature map, given x and a latent z [N, latents, R, R]."""
        return self.residual(x + self.project(z))

    def _read(self, x: Tensor, activations: Tensor) -> tuple[DiagonalGaussian, DiagonalGaussian, Tensor]:
        """Return the prior, the posterior of z in the prior's standard deviations, and the feature map to add z to."""
        active = F.gelu(x)  # once for both branches; that of the activations is shared by all blocks
        prior, following = self._prior(x, active)
        return prior, prior.merged(self.inference.activated(torch.cat([active, activations], 1))), following

    def _prior(self, x: Tensor, active: Tensor) -> tuple[DiagonalGaussian, Tensor]:
        parameters, summary = self.prior.activated(active).split([2 * self.latents, x.shape[1]], dim=1)
        return DiagonalGaussian.read(parameters), x + summary


def _terms(prior: DiagonalGaussian, posterior: DiagonalGaussian, inner: Tensor, noise: Tensor) -> Terms:
    """Return the terms of z, which is `inner` standard deviations from the prior's mean, `noise` from the posterior's.

    The posterior is that of z in the prior's standard deviations: q(z) = q(inner) / sigma.
    """
    log_sigma = prior.log_variance.sum((1, 2, 3)) / 2
    return Terms(posterior.kl_to_standard(), posterior.log_prob_at(noise) - log_sigma, prior.log_prob_at(inner))
