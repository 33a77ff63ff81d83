"""What is minimised: an autoencoder under an estimator, and a prior over codes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from narrows.bottlenecks import Posterior
from narrows.data import to_unit, to_waveform
from narrows.distributed import global_sum
from narrows.errors import NarrowsError
from narrows.estimators import Estimator, Evidence, elbo
from narrows.models import Autoencoder, SoundAutoencoder
from narrows.priors import Prior
from narrows.training.loop import Task

__all__ = ["AutoencoderTask", "PriorTask", "SoundTask"]


class AutoencoderTask(Task):
    """The estimator's loss in nats per dimension, and the bottleneck's own losses.

    Per dimension, because the bottleneck's losses are means over the latents: beside a likelihood summed over thousands
    of pixels the commitment of a VQ-VAE would be thousands of times weaker, and the encoder would outrun its codebook.

    Args:
        model: what is trained.
        estimator: the loss of a batch's evidence.
    """

    def __init__(self, model: Autoencoder, estimator: Estimator) -> None:
        super().__init__()
        self.model, self.estimator = model, estimator

    def forward(self, *batch: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch of data as they are stored, and the bound in bits/dim.

        The figures are those of the latents drawn: where an estimator relaxes codes, only a measurement gives a bound.
        """
        posterior, evidence, dimensions = self.evidence(*batch)
        loss = self.estimator(evidence).mean() / dimensions + sum(posterior.losses.values())
        with torch.no_grad():
            bits = 1 / (dimensions * math.log(2))
            figures = {
                "bits_per_dim": -elbo(evidence).mean() * bits,
                "rate_bits_per_dim": evidence.rate.mean() * bits,
                "distortion_bits_per_dim": -evidence.log_likelihood.mean() * bits,
            }
        detached = {name: value.detach() for name, value in posterior.losses.items()}
        found = {**posterior.statistics, **evidence.statistics}
        return loss, {**figures, **detached, **found, **self.estimator.figures}

    def evidence(self, *batch: Tensor) -> tuple[Posterior, Evidence, Tensor | int]:
        """q(z|x), the evidence, and the dimensions of an example, of pixels, uint8 [B, C, H, W].

        Labels behind them are not used.
        """
        return *self.model.evidence(to_unit(batch[0]), self.estimator.draw), self.model.dimensions


class SoundTask(AutoencoderTask):
    """The same of sound, whose dimensions are the samples that are real, on average over the batch of all processes.

    The rate is that of all codes of a window, of those of the silence too that fills a short clip up.

    Args:
        model: what is trained.
        estimator: the loss of a batch's evidence.
    """

    model: SoundAutoencoder

    def evidence(self, *batch: Tensor) -> tuple[Posterior, Evidence, Tensor | int]:
        """The same of windows, int16 [B, T], of which so many samples [B] are real, and their speakers [B]."""
        samples, lengths, speakers = batch
        if samples.numel() < 2 * self.model.hop:
            raise NarrowsError("a batch of one code cannot be normalised: raise training.batch_size or data.window")
        waveform = to_waveform(samples).unsqueeze(1)
        found = self.model.evidence(waveform, self.estimator.draw, speakers, lengths)
        real = global_sum(torch.stack([lengths.sum(), torch.full_like(lengths[0], len(lengths))]))
        return *found, real[0] / real[1]


class PriorTask(Task):
    """-log p(codes | label) in nats per example.

    Args:
        prior: what is trained.
        dimensions: d of the data behind the codes, for bits/dim.
    """

    def __init__(self, prior: Prior, dimensions: int) -> None:
        super().__init__()
        self.prior, self.dimensions = prior, dimensions

    def forward(self, *batch: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of integer codes [B, *grid] or [B, *grid, M], and of labels [B] where the prior has classes."""
        codes, labels = batch[0].long(), batch[1] if self.prior.classes else None
        loss = -self.prior.log_prob(codes, labels).mean()
        bits = loss.detach() / math.log(2)
        return loss, {
            "bits_per_code": bits * len(codes) / codes.numel(),
            "rate_bits_per_dim": bits / self.dimensions,
        }
