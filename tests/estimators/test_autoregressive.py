"""Estimators on an autoregressive posterior, enumerated: 2 latents of 3 categories, the second given the first."""

import math

import pytest
import torch
from torch import Tensor, nn

from narrows.bottlenecks import Autoregressive
from narrows.estimators import (
    DAPS,
    REINFORCE,
    VIMCO,
    Estimator,
    Evidence,
    GumbelRao,
    GumbelSoftmax,
    LeaveOneOut,
    StraightThroughGumbel,
)

BETA = 0.5
CHUNKS, RUNS = 200, 100
"""Batches of independent runs: each run has a gradient by its features, each batch one by the network."""
CODES = torch.cartesian_prod(torch.arange(3), torch.arange(3))
REWARDS = torch.tensor([-3.0, -1.0, -4.0, -1.5, -9.0, -2.5, -6.0, -5.0, -3.5], dtype=torch.float64)
"""log p(x|z) of the nine codes, for DAPS."""


@pytest.fixture
def bottleneck() -> Autoregressive:
    torch.manual_seed(0)
    made = Autoregressive(dim=1, codebook_size=3, codebooks=2, width=4, layers=1, heads=2).double()
    nn.init.normal_(made.writer.weight)
    return made


@pytest.fixture
def features(bottleneck: Autoregressive) -> Tensor:
    return torch.randn(1, 4, dtype=torch.float64)


def log_likelihood(z: Tensor) -> Tensor:
    """Log p(x|z), [...], of z [..., 2]: x ~ N(1.5 tanh(z1) + z1 z2, 1), x = 2."""
    first, second = z.unbind(-1)
    return -(2 - 1.5 * first.tanh() - first * second).square() / 2


def differentiate(loss: Tensor, features: Tensor, bottleneck: Autoregressive) -> tuple[Tensor, Tensor]:
    """The gradients by the features, [B, 4], and by all parameters projected on five fixed directions, [5]."""
    of_features, *of_network = torch.autograd.grad(loss, [features, *bottleneck.parameters()])
    flat = torch.cat([gradient.flatten() for gradient in of_network])
    directions = torch.randn(5, len(flat), dtype=flat.dtype, generator=torch.Generator().manual_seed(1))
    return of_features, directions @ flat


def exact(bottleneck: Autoregressive, features: Tensor, samples: int | None = None) -> tuple[Tensor, Tensor]:
    """The gradients of the negative ELBO, or of the S-sample bound in expectation over all 9^S draws."""
    features = features.clone().requires_grad_()
    log_q = bottleneck(features).log_prob(CODES.unsqueeze(1)).squeeze(1)
    likelihoods = log_likelihood(bottleneck.embed(CODES))
    if samples is None:
        objective = (log_q.exp() * (likelihoods - BETA * log_q)).sum()
    else:
        draws = torch.cartesian_prod(*[torch.arange(9)] * samples)
        log_f = (likelihoods - log_q)[draws]
        objective = (log_q[draws].sum(1).exp() * log_f.logsumexp(1)).sum()
    return differentiate(-objective, features, bottleneck)


def found(estimator: Estimator, bottleneck: Autoregressive, features: Tensor) -> tuple[Tensor, Tensor]:
    """Single gradients: by the features, [CHUNKS * RUNS, 4], and by the network in means of RUNS, [CHUNKS, 5]."""
    gradients = []
    for _ in range(CHUNKS):
        repeated = features.repeat(RUNS, 1).requires_grad_()
        draw = estimator.draw(bottleneck(repeated))
        loss = estimator(Evidence(log_likelihood(draw.z), draw.log_q, draw.log_p, draw.rate, repeated))
        of_features, of_network = differentiate(loss.sum(), repeated, bottleneck)
        gradients.append((of_features, of_network / RUNS))
    by_features, by_network = zip(*gradients, strict=True)
    return torch.cat(by_features), torch.stack(by_network)


def deviations(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> Tensor:
    """How many standard errors the means of the gradients are off, [9]."""
    return torch.cat(
        [
            (many.mean(0) - one.flatten()).abs() / (many.std(0) / math.sqrt(len(many)))
            for many, one in zip(found, expected, strict=True)
        ]
    )


def test_reinforce_is_unbiased(bottleneck: Autoregressive, features: Tensor) -> None:
    gradients = found(REINFORCE(LeaveOneOut, BETA, samples=2), bottleneck, features)
    assert (deviations(gradients, exact(bottleneck, features)) < 4).all()
    assert (deviations(gradients, exact(bottleneck, features, samples=2)) > 4).any()


def test_vimco_is_unbiased_for_its_bound(bottleneck: Autoregressive, features: Tensor) -> None:
    gradients = found(VIMCO(samples=2), bottleneck, features)
    assert (deviations(gradients, exact(bottleneck, features, samples=2)) < 4).all()
    assert (deviations(gradients, exact(bottleneck, features, samples=3)) > 4).any()


@pytest.mark.parametrize("target", [0.2, 0.5, 0.9])
def test_the_weights_of_daps_are_those_of_the_enumerated_optimum(
    target: float, bottleneck: Autoregressive, features: Tensor
) -> None:
    beta, samples = 0.3, 50_000
    posterior = bottleneck(features)
    codes = posterior.sample(samples)
    index = 3 * codes[:, 0, 0] + codes[:, 0, 1]
    log_q = posterior.log_prob(codes).detach()
    evidence = Evidence(REWARDS[index].unsqueeze(1), log_q, log_q, log_q[0], log_q[0])
    daps = DAPS(beta, target, samples).target(evidence)
    log_policy = posterior.log_prob(CODES.unsqueeze(1)).detach().squeeze(1)
    best = (log_policy + (REWARDS - beta * log_policy) / (daps.eta + beta)).softmax(0)
    weights = torch.zeros_like(best).index_add(0, index, daps.weights[:, 0])
    # The variance of a self-normalised average of indicators: sum_s w_s^2 (1_s - q*)^2.
    ratio = best.square() / log_policy.exp()
    error = ((ratio * (1 - best).square() + best.square() * (ratio.sum() - ratio)) / samples).sqrt()
    assert ((weights - best).abs() < 4 * error).all()
    assert abs(daps.ess.item() - 1 / ratio.sum().item()) < 0.01
    assert abs(daps.ess.item() - target) < 1e-3


@pytest.mark.parametrize("kind", [GumbelSoftmax, StraightThroughGumbel, GumbelRao])
def test_relaxed_codes_give_the_encoder_a_gradient(kind: type[GumbelSoftmax]) -> None:
    torch.manual_seed(0)
    bottleneck = Autoregressive(dim=1, codebook_size=3, codebooks=2, width=4, layers=1, heads=2)
    features = torch.randn(5, 4, 2, 3, requires_grad=True)
    estimator = kind(samples=2)
    draw = estimator.draw(bottleneck(features))
    likelihoods = log_likelihood(draw.z.movedim(2, -1)).flatten(2).sum(2)
    estimator(Evidence(likelihoods, draw.log_q, draw.log_p, draw.rate, features)).sum().backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()
    assert (features.grad != 0).all()
