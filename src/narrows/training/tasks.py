"""Training tasks: an autoencoder with an estimator, and a prior over codes."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from narrows.data import Batch
from narrows.distributed import global_sum
from narrows.estimators import Estimator, elbo
from narrows.models import Autoencoder
from narrows.priors import Condition, Prior
from narrows.training.loop import Task

__all__ = ["AutoencoderTask", "PriorTask"]


class AutoencoderTask(Task):
    """The estimator's loss in nats per dimension plus the bottleneck's own losses.

    The loss is per dimension because the bottleneck's losses are means over the latents. Beside a likelihood summed
    over thousands of dimensions, the commitment loss of a VQ-VAE would be thousands of times weaker, and the encoder
    would move faster than its codebook can follow. Only dimensions that count are included, on average over the
    examples of all processes.

    Args:
        model: the model to train.
        estimator: the loss of a batch's evidence.
        batch: converts stored examples to the model's input.
    """

    def __init__(self, model: Autoencoder, estimator: Estimator, batch: Callable[..., Batch]) -> None:
        super().__init__()
        self.model, self.estimator, self.batch = model, estimator, batch

    def forward(self, *stored: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of stored examples, and figures that include the bound in bits/dim.

        The figures are those of the latents drawn. If the estimator relaxes codes they are not a bound; see `measure`.
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
    """Return the number of dimensions that count per example, on average over the global batch."""
    if batch.mask is None:
        return batch.x[0].numel()
    counted = global_sum(torch.stack([batch.mask.sum(), torch.full_like(batch.mask.sum(), len(batch.x))]))
    return batch.x.shape[1] * counted[0] / counted[1]


class PriorTask(Task):
    """The loss -log p(codes | condition) in nats per example.

    Args:
        prior: the prior to train.
        dimensions: d, the number of dimensions of the data behind the codes, for bits/dim.
    """

    def __init__(self, prior: Prior, dimensions: int) -> None:
        super().__init__()
        self.prior, self.dimensions = prior, dimensions

    def forward(self, *batch: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and figures of codes [B, *grid] or [B, *grid, M].

        Labels [B] follow if the prior has classes, and at the end features [B, C, T, 1, ...] if it has channels.
        """
        codes = batch[0].long()
        labels, features = batch[1] if self.prior.classes else None, batch[-1] if self.prior.channels else None
        loss = -self.prior.log_prob(codes, Condition(labels, features)).mean()
        bits = loss.detach() / math.log(2)
        return loss, {
            "bits_per_code": bits * len(codes) / codes.numel(),
            "rate_bits_per_dim": bits / self.dimensions,
        }
