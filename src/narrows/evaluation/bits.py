"""What a model costs and loses on a data set: bits per dimension split into rate and distortion, and pixel errors.

-log2 p(x) <= [-E_q log2 p(x|z)] + [rate], divided by d; the rate is the KL to the fixed prior, or -log2 p(codes)
under the learned one.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from narrows.bottlenecks import CodePosterior, Posterior
from narrows.bottlenecks.usage import count, usage_statistics
from narrows.data import Images, to_unit
from narrows.errors import NarrowsError
from narrows.estimators import Evidence, importance_weighted_bound
from narrows.models import Autoencoder
from narrows.priors import Prior

__all__ = ["Measurement", "measure", "measure_prior", "squared_error"]

SSIM_WINDOW = 11
"""The side of the window that SSIM compares; smaller images have none."""


@dataclass
class Measurement:
    """Figures of a model on a data set.

    Attributes:
        figures: by name. `bits_per_dim`, the ELBO's; its parts `rate_bits_per_dim` and `distortion_bits_per_dim`, and
            that again as `log_likelihood`, E_q[log p(x|z)] in nats; `importance_weighted_bits_per_dim` where S > 1;
            `prior_rate_bits_per_dim` and `prior_bits_per_dim` where a prior is fitted, and the images have the labels
            that it is conditioned on; `squared_error`, E_q||x - E[x|z]||^2 summed over an image; `mse` over pixels in
            [0, 1], `psnr` (dB) and `ssim` of the reconstructions, averaged over images; `perplexity` and `usage` (the
            share of codes in use) of the codes.
        counts: how often each code was used, [M, K]; None if the latents are continuous.
        layer_rates: the parts of the rate by group and number, in nats per example, from the first latents to the last;
            {} if it has none.
    """

    figures: dict[str, float]
    counts: Tensor | None
    layer_rates: dict[tuple[str, int], float]


@torch.no_grad()
def measure(
    model: Autoencoder,
    images: Images,
    samples: int = 1,
    batch_size: int = 100,
    advance: Callable[[int], None] = lambda n: None,
) -> Measurement:
    """Measure `model` on `images`; the draws are a fixed function of the data, and training's own are left alone.

    Args:
        model: put into evaluation mode while it is measured.
        images: the data.
        samples: S of the importance-weighted bound; 1 leaves it out, as does a posterior of one latent.
        batch_size: latents decoded at once.
        advance: called with the number of images done.

    Raises:
        NarrowsError: if there are no images.
    """
    if not len(images):
        raise NarrowsError("there are no images to measure: this split of the data is empty")
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    if isinstance(model.posterior(torch.zeros(1, *model.shape, device=device)), CodePosterior):
        samples = 1
    totals: dict[str, float] = defaultdict(float)
    layers: dict[tuple[str, int], float] = defaultdict(float)
    counts = None
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        for pixels, labels in _batches(images, max(1, batch_size // samples)):
            x = to_unit(pixels.to(device))
            posterior, evidence, figures = _figures(model, x, None if labels is None else labels.to(device), samples)
            for name, values in figures.items():
                totals[name] += values.double().sum().item()
            for layer, values in evidence.layer_rates.items():
                layers[layer] += values.double().sum().item()
            codes = posterior.codes
            if codes is not None:
                batch_counts = count(codes.reshape(-1, model.codes.codebooks), model.codes.codebook_size).double()
                counts = batch_counts if counts is None else counts + batch_counts
            advance(len(x))
    model.train(training)
    means = {name: total / len(images) for name, total in totals.items()}
    layer_rates = {layer: total / len(images) for layer, total in layers.items()}
    if counts is not None:
        means |= {name: value.item() for name, value in usage_statistics(counts).items()}
    return Measurement(means, counts, layer_rates)


@torch.no_grad()
def squared_error(model: Autoencoder, images: Images, batch_size: int = 100) -> float:
    """E_q||x - E[x|z]||^2 of an image, from one draw each; as `measure`'s, without the rest."""
    device = next(model.parameters()).device
    total = 0.0
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        for pixels, _ in _batches(images, batch_size):
            _, evidence = model.evidence(to_unit(pixels.to(device)), lambda posterior: posterior.draw())
            total += evidence.squared_error().sum().item()
    return total / len(images)


@torch.no_grad()
def measure_prior(
    prior: Prior, codes: np.ndarray, labels: np.ndarray | None, dimensions: int, batch_size: int = 100
) -> dict[str, float]:
    """-log2 p(codes | label) as `bits_per_code`, and as `rate_bits_per_dim` of data of that many dimensions.

    Args:
        prior: put into evaluation mode while it is measured.
        codes: [N, *grid] or [N, *grid, M], any integer type.
        labels: [N] where the prior has classes.
        dimensions: d of the data behind the codes.
        batch_size: examples at once.
    """
    training = prior.training
    prior.eval()
    device = next(prior.parameters()).device
    nats = 0.0
    for start in range(0, len(codes), batch_size):
        part = slice(start, start + batch_size)
        given = torch.from_numpy(labels[part]).to(device) if labels is not None and prior.classes else None
        nats -= prior.log_prob(torch.from_numpy(codes[part]).to(device).long(), given).double().sum().item()
    prior.train(training)
    bits = nats / (len(codes) * math.log(2))
    return {"loss": nats / len(codes), "bits_per_code": bits / prior.length, "rate_bits_per_dim": bits / dimensions}


def _figures(
    model: Autoencoder, x: Tensor, labels: Tensor | None, samples: int
) -> tuple[Posterior, Evidence, dict[str, Tensor]]:
    bits = 1 / (model.dimensions * math.log(2))
    posterior, evidence = model.evidence(x, lambda posterior: posterior.draw(samples))
    distortion = -evidence.log_likelihood.mean(0) * bits
    rate = evidence.rate * bits
    reconstruction = model.observe(posterior.mode)
    mean = reconstruction.mean
    mse = (mean - x).square().flatten(1).mean(1)
    figures = {
        "bits_per_dim": rate + distortion,
        "rate_bits_per_dim": rate,
        "distortion_bits_per_dim": distortion,
        "log_likelihood": evidence.log_likelihood.mean(0),
        "squared_error": evidence.squared_error().mean(0),
        "mse": mse,
        "psnr": -10 * mse.clamp_min(1e-10).log10(),
    }
    if min(x.shape[2:]) >= SSIM_WINDOW:
        from torchmetrics.functional.image import structural_similarity_index_measure  # slow to import

        figures["ssim"] = structural_similarity_index_measure(mean, x, reduction="none", data_range=1.0)
    if samples > 1:
        figures["importance_weighted_bits_per_dim"] = -importance_weighted_bound(evidence) * bits
    told = model.prior is not None and (labels is not None or not model.prior.classes)
    if model.prior is not None and told and posterior.codes is not None:
        figures["prior_rate_bits_per_dim"] = -model.prior.log_prob(posterior.codes, labels) * bits
        # The codes are the mode, not those drawn: the bound is that of an encoder with all its mass there.
        figures["prior_bits_per_dim"] = figures["prior_rate_bits_per_dim"] - reconstruction.log_prob(x) * bits
    return posterior, evidence, figures


def _batches(images: Images, size: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    for start in range(0, len(images), size):
        part = slice(start, start + size)
        labels = None if images.labels is None else torch.from_numpy(np.asarray(images.labels[part]))
        yield torch.from_numpy(np.ascontiguousarray(images.pixels[part])), labels
