"""What is minimised: an autoencoder under an estimator, and a prior over codes."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from narrows.data import Batch
from narrows.distributed import global_sum
from narrows.estimators import Estimator, elbo
from narrows.models import Autoencoder
from narrows.priors import Prior
from narrows.training.loop import Task

__all__ = ["AutoencoderTask", "PriorTask"]


class AutoencoderTask(Task):
    """The estimator's loss in nats per dimension, and the bottleneck's own losses.

    Per dimension, because the bottleneck's losses are means over the latents: beside a likelihood summed over thousands
    of dimensions the commitment of a VQ-VAE would be thousands of times weaker, and the encoder would outrun its
    codebook. The dimensions are those that count, on average over the examples of all processes.

    Args:
        model: what is trained.
        estimator: the loss of a batch's evidence.
        batch: turns stored examples into what the model reads.
    """

    def __init__(self, model: Autoencoder, estimator: Estimator, batch: Callable[..., Batch]) -> None:
        super().__init__()
        self.model, self.estimator, self.batch = model, estimator, batch

    def forward(self, *stored: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of examples as they are stored, and the bound in bits/dim.

        The figures are those of the latents drawn: where an estimator relaxes codes, only a measurement gives a bound.
        """
        batch = self.batch(*stored)
        posterior, evidence = self.model.evidence(batch, self.estimator.draw)
        dimensions = _dimensions(batch)
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


def _dimensions(batch: Batch) -> Tensor | int:
    """The dimensions of an example that count, on average over the global batch."""
    if batch.mask is None:
        return batch.x[0].numel()
    counted = global_sum(torch.stack([batch.mask.sum(), torch.full_like(batch.mask.sum(), len(batch.x))]))
    return batch.x.shape[1] * counted[0] / counted[1]


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
