"""How noisy an estimator's gradient is for the inference network: the share of its squared length that is variance.

For gradients g_1, ..., g_R of independent draws, tr Cov(g) / E||g||^2; what an estimator of low variance buys.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from narrows.errors import NarrowsError
from narrows.estimators import Estimator
from narrows.models import Autoencoder

__all__ = ["gradient_noise"]


@torch.enable_grad()
def gradient_noise(
    model: Autoencoder, estimator: Estimator, x: Tensor, draws: int = 16, **given: Tensor
) -> dict[str, float]:
    """The noise of the training loss's gradient on one batch, by all weights of encoder and bottleneck that learn.

    The loss is that of training, in nats per dimension. The draws are always the same, training's own are left alone,
    and so are gradients, modes and buffers. Where there are several processes, all have to take part.

    Args:
        model: put into evaluation mode meanwhile, so that dropout is off and no codebook learns.
        estimator: put into evaluation mode meanwhile, so that it counts no steps and keeps no averages.
        x: [B, C, *size] in [0, 1], on the model's device.
        draws: R, the gradients to compare.
        given: what else the model's `evidence` takes of the batch, such as the speakers.

    Returns:
        `gradient_variance`, the unbiased trace of the covariance of g_r, 1 / (R - 1) sum_r ||g_r - mean||^2, in squared
        nats/dim per unit of weight; `gradient_noise`, its ratio to 1/R sum_r ||g_r||^2: 0 without noise, 1 in
        expectation where all is noise, and the same for estimators whose scales differ.

    Raises:
        NarrowsError: if `draws` is below 2, or neither encoder nor bottleneck has a weight that learns.
    """
    if draws < 2:
        raise NarrowsError(f"draws is {draws}: a variance needs at least 2")
    parts = (model.encoder, model.bottleneck)
    weights = [weight for part in parts for weight in part.parameters() if weight.requires_grad]
    if not weights:
        raise NarrowsError("the encoder and the bottleneck are frozen: no gradient of theirs has noise to measure")
    mean: Tensor | float = 0.0
    deviations = squares = torch.zeros((), device=x.device)
    with _evaluating(model, estimator), torch.random.fork_rng(devices=[x.device] if x.device.type == "cuda" else []):
        torch.manual_seed(0)
        for done in range(draws):
            gradients = torch.autograd.grad(_loss(model, estimator, x, given), weights, materialize_grads=True)
            gradient = torch.cat([part.flatten() for part in gradients])
            # Welford's running sums: they do not cancel, and equal gradients have no variance to the last bit.
            difference = gradient - mean
            mean = mean + difference / (done + 1)
            deviations = deviations + done / (done + 1) * difference.dot(difference)
            squares = squares + gradient.dot(gradient)
    variance, length = deviations.item() / (draws - 1), squares.item() / draws
    return {"gradient_variance": variance, "gradient_noise": variance / length if length else 0.0}


def _loss(model: Autoencoder, estimator: Estimator, x: Tensor, given: dict[str, Tensor]) -> Tensor:
    """What `narrows.training.tasks` minimises: of sound, for each sample that is real."""
    posterior, evidence = model.evidence(x, estimator.draw, **given)
    dimensions = given["lengths"].float().mean() if "lengths" in given else model.dimensions
    return estimator(evidence).mean() / dimensions + sum(posterior.losses.values())


@contextmanager
def _evaluating(*roots: nn.Module) -> Iterator[None]:
    """Evaluation mode, after which every module has the mode it had; parts of a model may be frozen in theirs."""
    modes = [(module, module.training) for root in roots for module in root.modules()]
    for root in roots:
        root.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
