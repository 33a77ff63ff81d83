"""Bits per dimension of a model on a data set, split into rate and distortion.

-log2 p(x) <= [-E_q log2 p(x|z)] + [rate], divided by d. The rate is the KL to the fixed prior, or -log2 p(codes) under
the learned one.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from narrows.bottlenecks import CodePosterior, Posterior
from narrows.bottlenecks.usage import count, usage_statistics
from narrows.data import Batch, Examples
from narrows.errors import NarrowsError
from narrows.estimators import Evidence, importance_weighted_bound
from narrows.models import Autoencoder
from narrows.priors import Condition, Prior

__all__ = ["Figures", "Measurement", "measure", "measure_prior", "squared_error"]

BATCH = 100
"""Number of latents decoded at once."""

Figures = Callable[[Tensor, Tensor], dict[str, Tensor]]
"""A modality's own figures, [B] by name, of data x and their reconstructions, both [B, C, *size]."""


@dataclass
class Measurement:
    """Figures of a model on a data set.

    Attributes:
        figures: figures by name. `bits_per_dim` of the ELBO, averaged over all dimensions of all examples; its parts
            `rate_bits_per_dim` and `distortion_bits_per_dim`; `log_likelihood`, E_q[log p(x|z)] in nats per example;
            `importance_weighted_bits_per_dim` if S > 1; `prior_rate_bits_per_dim` and `prior_bits_per_dim` if a prior
            is fitted and the examples have the classes it needs, and `prior_bits_per_code`; `bits_per_second`, the rate
            of data in time; the terms of the distortion, if it has any, as `codes_bits_per_dim`; the model's `ratios`;
            `perplexity` and `usage` (share of codes in use) of the codes; and the modality's own.
        counts: number of uses of each code, [M, K]; None if the latents are continuous.
        layer_rates: rates of the layers by group and number, in nats per example, from the first latents to the last;
            {} if the rate has no layers.
    """

    figures: dict[str, float]
    counts: Tensor | None
    layer_rates: dict[tuple[str, int], float]


@torch.no_grad()
def measure(
    model: Autoencoder,
    examples: Examples,
    samples: int = 1,
    figures: Figures | None = None,
    batch_size: int = BATCH,
    advance: Callable[[int], None] = lambda n: None,
) -> Measurement:
    """Measure a model on whole examples.

    The same data always give the same draws, and the global random state does not change. An autoregressive decoder is
    given the true values of all earlier positions; further figures are those of data that it draws.

    Args:
        model: the model; in evaluation mode during the measurement.
        examples: the data, with their classes numbered as in the model (see `Examples.numbered`).
        samples: S of the importance-weighted bound, which is left out if S is 1 or the posterior is deterministic.
        figures: further figures of reconstructions; None for none.
        batch_size: number of latents decoded at once.
        advance: called with the number of examples just measured.

    Raises:
        NarrowsError: if there are no examples, or the likelihood does not describe them.
    """
    if not len(examples):
        raise NarrowsError("there are no examples to measure: this split of the data is empty")
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    tally = _Tally(model, examples, samples, figures)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        for stored in examples.whole(max(1, batch_size // tally.samples)):
            batch = examples.batch(*(part.to(device) for part in stored))
            tally.add(batch)
            advance(len(batch.x))
    model.train(training)
    return tally.measurement


class _Tally:
    """Running sums of figures over examples."""

    def __init__(self, model: Autoencoder, examples: Examples, samples: int, figures: Figures | None) -> None:
        self.model, self.figures = model, figures
        blank = torch.zeros(1, *model.shape, device=next(model.parameters()).device)
        self.samples = 1 if isinstance(model.posterior(blank), CodePosterior) else samples
        self.informed = model.prior is not None and _is_informed(model, model.prior, examples)
        self.examples = self.dimensions = 0
        self.squared_error = 0.0
        self.nats: dict[str, float] = defaultdict(float)
        self.others: dict[str, list[Tensor]] = defaultdict(list)
        self.ratios: dict[str, float] = defaultdict(float)
        self.divisors: dict[str, float] = defaultdict(float)
        self.before: Tensor | None = None
        self.layers: dict[tuple[str, int], float] = defaultdict(float)
        self.counts: Tensor | None = None

    def add(self, batch: Batch) -> None:
        """Add the figures of a batch."""
        model = self.model
        model.likelihood.check(batch.x)
        posterior, evidence = model.evidence(batch, lambda posterior: posterior.draw(self.samples))
        self.examples += len(batch.x)
        positions = batch.x[:, 0].numel() if batch.mask is None else int(batch.mask.sum())
        self.dimensions += positions * batch.x.shape[1]
        self.nats["rate"] += _total(evidence.rate)
        self.nats["distortion"] -= _total(evidence.log_likelihood.mean(0))
        if self.samples > 1:
            self.nats["importance_weighted"] -= _total(importance_weighted_bound(evidence))
        for layer, values in evidence.layer_rates.items():
            self.layers[layer] += _total(values)
        for name, values in evidence.terms.items():
            self.nats[name] -= _total(values.mean(0))
        if not model.autoregressive:
            self.squared_error += _total(evidence.squared_error().mean(0))
        found = model.ratios(batch, posterior, self.before)
        for name, (total, number) in found.items():
            self._add_ratio(name, total, number)
        self.before = posterior.mode if found else None
        if posterior.codes is not None:
            self._count(posterior.codes)
        if self.figures is not None or self.informed:
            self._add_reconstruction(batch, posterior, evidence)

    def _add_ratio(self, name: str, total: Tensor, number: Tensor) -> None:
        self.ratios[name] += _total(total)
        self.divisors[name] += _total(number)

    def _count(self, codes: Tensor) -> None:
        spec = self.model.codes
        counts = count(codes.reshape(-1, spec.codebooks), spec.codebook_size).double()
        self.counts = counts if self.counts is None else self.counts + counts

    def _add_reconstruction(self, batch: Batch, posterior: Posterior, evidence: Evidence) -> None:
        """Add figures of the reconstruction from the posterior's mode, and of its codes under the learned prior."""
        if self.figures is not None:
            if self.model.autoregressive:
                made = self.model.decode_latents(posterior.mode)
            elif isinstance(posterior, CodePosterior) and evidence.observation is not None:
                made = evidence.observation.mean  # the latent drawn is the mode
            else:
                made = self.model.described(batch, posterior.mode.unsqueeze(0))[0].mean
            for name, values in self.figures(batch.x, made[:, :, : batch.x.shape[2]]).items():
                self.others[name].append(values[~values.isnan()].detach().cpu().double())
        if self.informed and self.model.prior is not None and posterior.codes is not None:
            rate = _prior_nats(self.model.prior, posterior.codes, batch.condition, batch.features).sum()
            self._add_ratio("prior_bits_per_code", rate / math.log(2), torch.tensor(posterior.codes.numel()))
            self.nats["prior_rate"] += _total(rate)
            # The codes are the mode rather than a draw: the bound holds for an encoder with all its mass on the mode.
            if isinstance(posterior, CodePosterior):
                log_likelihood = evidence.log_likelihood[:1]
            else:
                log_likelihood = self.model.log_likelihood(batch, posterior.mode.unsqueeze(0))
            self.nats["prior"] += _total(rate) - _total(log_likelihood)

    @property
    def measurement(self) -> Measurement:
        """Figures of all batches added."""
        per_dim = {name: nats / (self.dimensions * math.log(2)) for name, nats in self.nats.items()}
        figures = {"bits_per_dim": per_dim["rate"] + per_dim["distortion"]}
        figures |= {f"{name}_bits_per_dim": bits for name, bits in per_dim.items()}
        figures["log_likelihood"] = -self.nats["distortion"] / self.examples
        if self.model.spec.rate is not None:
            figures["bits_per_second"] = figures["rate_bits_per_dim"] * self.model.shape[0] * self.model.spec.rate
        if not self.model.autoregressive:
            figures["squared_error"] = self.squared_error / self.dimensions * self.model.dimensions
        others = {name: torch.cat(parts) for name, parts in self.others.items()}
        figures |= {name: float(values.mean()) for name, values in others.items() if len(values)}
        figures |= {name: total / self.divisors[name] for name, total in self.ratios.items()}
        if "codes" in self.nats:
            bits = (self.nats["codes"] + self.nats["rate"]) / math.log(2)
            figures["bits_per_code_with_latents"] = bits / self.divisors["bits_per_code"]
        if self.counts is not None:
            figures |= {name: value.item() for name, value in usage_statistics(self.counts).items()}
        layers = {layer: total / self.examples for layer, total in self.layers.items()}
        return Measurement(figures, self.counts, layers)


@torch.no_grad()
def squared_error(model: Autoencoder, examples: Examples, batch_size: int = BATCH) -> float:
    """Return the mean of E_q||x - E[x|z]||^2 over examples, from one draw each, as `measure` does."""
    device = next(model.parameters()).device
    total = 0.0
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        for stored in examples.whole(batch_size):
            batch = examples.batch(*(part.to(device) for part in stored))
            _, evidence = model.evidence(batch, lambda posterior: posterior.draw())
            total += _total(evidence.squared_error())
    return total / len(examples)


@torch.no_grad()
def measure_prior(
    prior: Prior,
    codes: np.ndarray,
    labels: np.ndarray | None,
    dimensions: int,
    batch_size: int = BATCH,
    features: np.ndarray | None = None,
) -> dict[str, float]:
    """Measure a prior on codes.

    Args:
        prior: the prior; in evaluation mode during the measurement.
        codes: codes [N, *grid] or [N, *grid, M] of any integer type.
        labels: labels [N] if the prior has classes.
        dimensions: d, the number of dimensions of the data behind the codes.
        batch_size: number of examples at once.
        features: features [N, C, T, 1, ...] if the prior has channels.

    Returns:
        `loss`, -log p(codes | condition) in nats per example, and the same in bits as `bits_per_code` and
        `rate_bits_per_dim`.
    """
    training = prior.training
    prior.eval()
    device = next(prior.parameters()).device
    nats = 0.0
    for start in range(0, len(codes), batch_size):
        part = slice(start, start + batch_size)
        given = Condition(
            torch.from_numpy(labels[part]).to(device) if labels is not None and prior.classes else None,
            torch.from_numpy(features[part]).to(device) if features is not None and prior.channels else None,
        )
        nats -= _total(prior.log_prob(torch.from_numpy(codes[part]).to(device).long(), given))
    prior.train(training)
    bits = nats / (len(codes) * math.log(2))
    return {"loss": nats / len(codes), "bits_per_code": bits / prior.length, "rate_bits_per_dim": bits / dimensions}


def _is_informed(model: Autoencoder, prior: Prior, examples: Examples) -> bool:
    """Whether the prior can be measured; for data of a fixed size, a prior with classes needs every example's class."""
    if not prior.classes or model.variable:
        return True
    return examples.labels is not None and bool((examples.labels >= 0).all())


def _prior_nats(prior: Prior, codes: Tensor, labels: Tensor | None, features: Tensor | None = None) -> Tensor:
    """Return -log p of codes [B, *grid] or [B, *grid, M] in nats, [B], summed over consecutive windows of the prior.

    Codes after the last whole window, and all codes of an example of unknown class, have the uniform prior.
    """
    length = prior.grid[0]
    windows = codes.shape[1] // length
    uniform = math.log(prior.codebook_size)
    if prior.classes and labels is not None:
        known = labels >= 0
    else:
        known = torch.ones(len(codes), dtype=torch.bool, device=codes.device)
    nats = known.new_full((len(codes),), codes[0].numel() * uniform, dtype=torch.float32)
    if not windows or not known.any():
        return nats
    covered = codes[known, : windows * length].unflatten(1, (windows, length)).flatten(0, 1)
    given = Condition(
        labels[known].repeat_interleave(windows) if prior.classes and labels is not None else None,
        _windows(features[known], length, windows) if prior.channels and features is not None else None,
    )
    under_prior = -prior.log_prob(covered, given).view(-1, windows).sum(1)
    nats[known] = under_prior + (codes[0].numel() - windows * prior.length) * uniform
    return nats


def _windows(features: Tensor, length: int, windows: int) -> Tensor:
    """Return the first `windows` windows of features [B, C, T, ...], [B * `windows`, C, `length`, ...]."""
    return features[:, :, : windows * length].unflatten(2, (windows, length)).movedim(2, 1).flatten(0, 1)


def _total(values: Tensor) -> float:
    return values.double().sum().item()
