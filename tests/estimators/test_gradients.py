"""Each estimator against the exact gradient, by enumeration of 2 latents of 3 categories."""

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from narrows.bottlenecks import CategoricalPosterior
from narrows.estimators import (
    DAPS,
    REINFORCE,
    VIMCO,
    Estimator,
    Evidence,
    GumbelRao,
    GumbelSoftmax,
    LearnedBaseline,
    LeaveOneOut,
    MovingAverage,
    NoBaseline,
    StraightThroughGumbel,
)

BETA = 0.5
RUNS = 20_000
LOGITS = torch.tensor([[0.3, -0.5, 0.9], [-1.0, 0.4, 0.2]], dtype=torch.float64)
EMBEDDINGS = torch.tensor([[[0.0], [1.0], [2.5]], [[-1.0], [0.5], [1.0]]], dtype=torch.float64)
SLOPE = torch.tensor(1.5, dtype=torch.float64)
CODES = torch.cartesian_prod(torch.arange(3), torch.arange(3))


def log_likelihood(z: Tensor, slope: Tensor) -> Tensor:
    """Log p(x|z), [...], of z [..., 2] under a decoder with one parameter: x ~ N(slope tanh(z1) + z1 z2, 1), x = 2."""
    first, second = z.unbind(-1)
    return -(2 - slope * first.tanh() - first * second).square() / 2


class Exact(NamedTuple):
    """The nine codes' log-likelihoods and log-probabilities, as functions of the parameters."""

    logits: Tensor
    slope: Tensor
    log_likelihood: Tensor
    log_q: Tensor

    def gradient(self, bound: Tensor) -> Tensor:
        """That of -bound by the six logits and the slope, [7]."""
        gradients = torch.autograd.grad(-bound, [self.logits, self.slope])
        return torch.cat([gradient.flatten() for gradient in gradients])


def exact() -> Exact:
    logits, slope = LOGITS.clone().requires_grad_(), SLOPE.clone().requires_grad_()
    z = torch.stack([EMBEDDINGS[m, CODES[:, m], 0] for m in range(2)], -1)
    log_q = logits.log_softmax(-1)[torch.arange(2), CODES].sum(-1)
    return Exact(logits, slope, log_likelihood(z, slope), log_q)


def exact_elbo_gradient() -> Tensor:
    """Of sum_z q(z) (log p(x|z) - beta log q(z)) + constant."""
    model = exact()
    return model.gradient((model.log_q.exp() * (model.log_likelihood - BETA * model.log_q)).sum())


def exact_multi_sample_gradient(samples: int) -> Tensor:
    """Of the importance-weighted bound's expectation over all 9^S draws."""
    model = exact()
    draws = torch.cartesian_prod(*[torch.arange(9)] * samples)
    log_f = model.log_likelihood - model.log_q - 2 * math.log(3)
    bounds = log_f[draws].logsumexp(1) - math.log(samples)
    return model.gradient((model.log_q[draws].sum(1).exp() * bounds).sum())


def gradients(estimator: Estimator, runs: int = RUNS) -> Tensor:
    """The estimator's gradient in that many independent runs, [runs, 7]; a run is an example of one batch."""
    logits = LOGITS.expand(runs, 2, 3).clone().requires_grad_()
    slope = SLOPE.expand(runs).clone().requires_grad_()
    posterior = CategoricalPosterior(logits, EMBEDDINGS)
    draw = estimator.draw(posterior)
    x = torch.linspace(-1, 1, runs, dtype=torch.float64).unsqueeze(1)
    evidence = Evidence(log_likelihood(draw.z, slope), draw.log_q, draw.log_p, posterior.rate, x)
    estimator(evidence).sum().backward()
    assert logits.grad is not None
    assert slope.grad is not None
    return torch.cat([logits.grad.flatten(1), slope.grad.unsqueeze(1)], 1)


def deviations(found: Tensor, expected: Tensor) -> Tensor:
    """How many standard errors the mean of found [runs, 7] is off, [7]."""
    return (found.mean(0) - expected).abs() / (found.std(0) / math.sqrt(len(found)))


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


UNBIASED = {
    "none": lambda: REINFORCE(NoBaseline, BETA, samples=1),
    "none, four samples": lambda: REINFORCE(NoBaseline, BETA, samples=4),
    "moving average": lambda: REINFORCE(MovingAverage, BETA, samples=1),
    "learned": lambda: REINFORCE(lambda: LearnedBaseline(inputs=1, width=4), BETA, samples=2),
    "leave one out": lambda: REINFORCE(LeaveOneOut, BETA, samples=2),
    "leave one out, a decoder of one sample": lambda: REINFORCE(LeaveOneOut, BETA, samples=4, decoder_samples=1),
}


@pytest.mark.parametrize("name", UNBIASED)
def test_reinforce_is_unbiased_with_every_baseline(name: str) -> None:
    estimator = UNBIASED[name]().double()
    gradients(estimator, 100)  # what fills a moving average
    assert (deviations(gradients(estimator), exact_elbo_gradient()) < 4).all()


@pytest.mark.parametrize("samples", [2, 3])
def test_vimco_is_unbiased_for_its_bound(samples: int) -> None:
    found = gradients(VIMCO(samples))
    assert (deviations(found, exact_multi_sample_gradient(samples)) < 4).all()
    assert (deviations(found, exact_multi_sample_gradient(5 - samples)) > 4).any()


def test_baselines_lower_the_variance() -> None:
    def variance(name: str) -> float:
        estimator = UNBIASED[name]().double()
        gradients(estimator, 100)
        return gradients(estimator)[:, :6].var(0).sum().item()

    assert variance("moving average") < 0.5 * variance("none")
    leave_one_out = gradients(REINFORCE(LeaveOneOut, BETA, samples=4))[:, :6].var(0).sum()
    assert leave_one_out < 0.5 * variance("none, four samples")


def test_vimco_has_less_variance_than_the_score_of_its_bound() -> None:
    """Without the baselines the coefficients would be the bound itself."""
    estimator = VIMCO(3)
    found = gradients(estimator)[:, :6].var(0).sum()
    logits = LOGITS.expand(RUNS, 2, 3).clone().requires_grad_()
    posterior = CategoricalPosterior(logits, EMBEDDINGS)
    draw = posterior.draw(3)
    log_f = log_likelihood(draw.z, SLOPE) + draw.log_p - draw.log_q
    bound = log_f.logsumexp(0) - math.log(3)
    (bound.detach() * draw.log_q.sum(0) + bound).sum().backward()
    assert logits.grad is not None
    plain = -logits.grad.flatten(1)
    assert (deviations(plain, exact_multi_sample_gradient(3)[:6]) < 4).all()
    assert found < 0.5 * plain.var(0).sum()


def constant_temperature(kind: type[GumbelSoftmax], temperature: float) -> GumbelSoftmax:
    return kind(temperature=temperature, final_temperature=temperature, beta=BETA)


def test_the_bias_of_relaxed_codes_shows_and_shrinks_with_the_temperature() -> None:
    expected = exact_elbo_gradient()[:6]
    biases = []
    for temperature in (5.0, 0.5, 0.1):
        found = gradients(constant_temperature(GumbelSoftmax, temperature))[:, :6]
        biases.append((found.mean(0) - expected).norm().item())
        if temperature >= 0.5:
            assert deviations(found, expected).max() > 40
    assert biases[0] > 1.5 * biases[1] > 3 * biases[2]


@pytest.mark.parametrize("kind", [StraightThroughGumbel, GumbelRao])
def test_the_bias_of_straight_through_codes_shows_in_the_encoder_alone(kind: type[GumbelSoftmax]) -> None:
    deviation = deviations(gradients(constant_temperature(kind, 1.0)), exact_elbo_gradient())
    assert deviation[:6].max() > 4
    assert deviation[6] < 4


def test_gumbel_rao_has_the_mean_of_straight_through_and_less_variance() -> None:
    straight = gradients(constant_temperature(StraightThroughGumbel, 0.5))[:, :6]
    rao = gradients(GumbelRao(20, temperature=0.5, final_temperature=0.5, beta=BETA))[:, :6]
    one = gradients(GumbelRao(1, temperature=0.5, final_temperature=0.5, beta=BETA))[:, :6]
    for found in (rao, one):
        error = ((straight.var(0) + found.var(0)) / RUNS).sqrt()
        assert ((straight.mean(0) - found.mean(0)).abs() < 4 * error).all()
    assert rao.var(0).sum() < 0.7 * straight.var(0).sum()
    assert one.var(0).sum() == pytest.approx(straight.var(0).sum().item(), rel=0.05)


ALL = {
    **UNBIASED,
    "vimco": lambda: VIMCO(4),
    "daps": lambda: DAPS(BETA, samples=4),
    "straight-through": lambda: StraightThroughGumbel(beta=BETA),
    "gumbel-rao": lambda: GumbelRao(beta=BETA),
}


@pytest.mark.parametrize("name", [name for name in ALL if name != "vimco"])
def test_the_value_of_a_loss_is_the_negative_elbo(name: str) -> None:
    model = exact()
    elbo = (model.log_q.exp() * (model.log_likelihood - BETA * (model.log_q + 2 * math.log(3)))).sum()
    posterior = CategoricalPosterior(LOGITS.expand(RUNS, 2, 3), EMBEDDINGS)
    estimator = ALL[name]().double()
    draw = estimator.draw(posterior)
    x = torch.zeros(RUNS, 1, dtype=torch.float64)
    loss = estimator(Evidence(log_likelihood(draw.z, SLOPE), draw.log_q, draw.log_p, posterior.rate, x))
    assert loss.shape == (RUNS,)
    assert deviations(-loss.detach(), elbo.detach()) < 4
    assert all(figure.ndim == 0 and not figure.requires_grad for figure in estimator.figures.values())
