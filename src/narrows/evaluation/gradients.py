"""Noise of an estimator's gradient for the inference network, as the share of its squared length that is variance.

For gradients g_1, ..., g_R of independent draws this is tr Cov(g) / E||g||^2.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from narrows.data.dataset import Stored
from narrows.errors import NarrowsError
from narrows.training.tasks import AutoencoderTask

__all__ = ["gradient_noise"]


@torch.enable_grad()
def gradient_noise(task: AutoencoderTask, stored: Stored, draws: int = 16) -> dict[str, float]:
    """Return the noise of the training loss's gradient on one batch, over all weights of encoder and bottleneck.

    The draws are the same at every call. The global random state, gradients, modes and buffers do not change. If there
    are several processes, all of them must call it.

    Args:
        task: the loss; in evaluation mode during the measurement, so that dropout is off, no codebook learns, and the
            estimator counts no steps and updates no averages.
        stored: the batch as stored, on the model's device.
        draws: R, the number of gradients to compare.

    Returns:
        `gradient_variance`, the unbiased trace of the covariance of g_r, 1 / (R - 1) sum_r ||g_r - mean||^2, in squared
        nats/dim per unit of weight; `gradient_noise`, its ratio to 1/R sum_r ||g_r||^2, which is 0 without noise, 1 in
        expectation if there is nothing but noise, and independent of the estimator's scale.

    Raises:
        NarrowsError: if `draws` is below 2, or neither encoder nor bottleneck has trainable weights.
    """
    if draws < 2:
        raise NarrowsError(f"draws is {draws}: a variance needs at least 2")
    parts = (task.model.encoder, task.model.bottleneck)
    weights = [weight for part in parts for weight in part.parameters() if weight.requires_grad]
    if not weights:
        raise NarrowsError(
            "the encoder and the bottleneck are frozen, so their gradient noise cannot be measured: set "
            "training.gradient_draws=0"
        )
    device = weights[0].device
    mean: Tensor | float = 0.0
    deviations = squares = torch.zeros((), device=device)
    with _evaluating(task), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        for done in range(draws):
            loss, _ = task(*stored)
            gradient = torch.cat(
                [part.flatten() for part in torch.autograd.grad(loss, weights, materialize_grads=True)]
            )
            # Welford's running sums do not cancel, and give equal gradients a variance of exactly 0.
            difference = gradient - mean
            mean = mean + difference / (done + 1)
            deviations = deviations + done / (done + 1) * difference.dot(difference)
            squares = squares + gradient.dot(gradient)
    variance, length = deviations.item() / (draws - 1), squares.item() / draws
    return {"gradient_variance": variance, "gradient_noise": variance / length if length else 0.0}


@contextmanager
def _evaluating(*roots: nn.Module) -> Iterator[None]:
    """Set evaluation mode for the block, then restore each module's own mode, because frozen parts may differ."""
    modes = [(module, module.training) for root in roots for module in root.modules()]
    for root in roots:
        root.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
