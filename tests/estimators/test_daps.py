"""DAPS against its target policy, by enumeration of 2 latents of 3 categories."""

import logging
import math

import pytest
import torch
from torch import Tensor

from narrows.bottlenecks import CategoricalPosterior
from narrows.errors import NarrowsError
from narrows.estimators import DAPS, Evidence

CODES = torch.cartesian_prod(torch.arange(3), torch.arange(3))
LOGITS = torch.tensor([[0.3, -0.5, 0.9], [-1.0, 0.4, 0.2]], dtype=torch.float64)
REWARDS = torch.tensor([-3.0, -1.0, -4.0, -1.5, -9.0, -2.5, -6.0, -5.0, -3.5], dtype=torch.float64)
"""log p(x|z) of the nine codes."""


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def drawn(logits: Tensor, rewards: Tensor, samples: int) -> tuple[Evidence, Tensor]:
    """Evidence of S samples for logits [B, 2, 3] and rewards [B, 9], and which of the nine codes they are, [S, B]."""
    posterior = CategoricalPosterior(logits, torch.zeros(2, 3, 1, dtype=logits.dtype))
    codes = posterior.sample(samples)
    index = 3 * codes[..., 0] + codes[..., 1]
    log_q = posterior.log_prob(codes)
    evidence = Evidence(rewards.T.gather(0, index), log_q, torch.zeros_like(log_q), posterior.rate, rewards)
    return evidence, index


def log_policy(logits: Tensor) -> Tensor:
    """Log q of the nine codes under logits [2, 3]."""
    return logits.log_softmax(-1)[torch.arange(2), CODES].sum(-1)


def optimum(beta: float, eta: Tensor) -> Tensor:
    """Q* ~ q exp((R - beta log q) / (eta + beta)) of the nine codes."""
    log_q = log_policy(LOGITS)
    return (log_q + (REWARDS - beta * log_q) / (eta + beta)).softmax(0)


def objective(logits: Tensor, rewards: Tensor, beta: float) -> Tensor:
    """E_q[log p(x|z)] + beta H(q)."""
    log_q = log_policy(logits)
    return (log_q.exp() * (rewards - beta * log_q)).sum()


@pytest.mark.parametrize("beta", [0.0, 0.3])
@pytest.mark.parametrize("target", [0.2, 0.5, 0.9])
def test_weights_ess_and_trust_region_are_those_of_the_enumerated_optimum(beta: float, target: float) -> None:
    samples = 100_000
    evidence, index = drawn(LOGITS[None], REWARDS[None], samples)
    found = DAPS(beta, target, samples).target(evidence)
    best, q = optimum(beta, found.eta), log_policy(LOGITS).exp()
    weights = torch.zeros(9, dtype=torch.float64).index_add(0, index[:, 0], found.weights[:, 0])
    # The variance of a self-normalised average of indicators: sum_s w_s^2 (1_s - q*)^2.
    ratio = best**2 / q
    error = ((ratio * (1 - best) ** 2 + best**2 * (ratio.sum() - ratio)) / samples).sqrt()
    assert ((weights - best).abs() < 4 * error).all()
    renyi = ratio.sum().log()
    assert abs(found.ess.item() - target) < 1e-3
    assert abs(found.ess.item() - math.exp(-renyi)) < 0.01
    kl = (best * (best / q).log()).sum()
    assert 0 < kl < renyi
    assert kl < -math.log(target)
    estimator = DAPS(beta, target, samples)
    estimator(evidence)
    assert estimator.figures["target_kl"] == pytest.approx(kl.item(), abs=0.01)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("samples", [2, 8, 64])
def test_the_batch_mean_of_ess_meets_the_target_at_any_scale(scale: float, samples: int) -> None:
    """Examples of very different scales share one eta, which a thousandth more or less would not do for."""
    spreads = scale * torch.logspace(-2, 2, 50)
    log_likelihood = torch.randn(samples, 50) * spreads - 1000 * scale
    log_q = -torch.rand(samples, 50)
    evidence = Evidence(log_likelihood, log_q, log_q, log_q[0], log_q[0])
    for target in (0.51, 0.7, 0.99):
        found = DAPS(beta=0.0, ess_target=target, samples=samples).target(evidence)
        assert abs(found.ess.mean().item() - target) < 1e-3
        scores = log_likelihood.double() - log_likelihood.double().amax(0)

        def mean_ess(eta: float, scores: Tensor = scores) -> float:
            return (1 / (samples * (scores / eta).softmax(0).square().sum(0))).mean().item()

        assert mean_ess(0.999 * found.eta.item()) < target < mean_ess(1.001 * found.eta.item())


def test_eta_is_zero_where_the_optimum_is_within_the_trust_region() -> None:
    """With beta 10 the entropy decides, and q* hardly differs from the uniform policy, which is near q."""
    evidence, _ = drawn(LOGITS[None] / 10, REWARDS[None], 1000)
    found = DAPS(beta=10.0, ess_target=0.3, samples=1000).target(evidence)
    assert found.eta == 0
    assert found.ess > 0.3
    scores = (evidence.log_likelihood - 10 * evidence.log_q) / 10
    torch.testing.assert_close(found.weights, scores.softmax(0))


@pytest.mark.parametrize("target", [0.3, 0.6, 0.9])
def test_a_step_raises_the_objective(target: float) -> None:
    beta, samples = 0.1, 5_000
    for _ in range(10):
        logits, rewards = torch.randn(1, 2, 3, dtype=torch.float64), 3 * torch.randn(1, 9, dtype=torch.float64)
        logits.requires_grad_()
        evidence, _ = drawn(logits, rewards, samples)
        (gradient,) = torch.autograd.grad(DAPS(beta, target, samples)(evidence).sum(), logits)
        before = objective(logits[0], rewards[0], beta)
        assert objective(logits[0] - 0.1 * gradient[0], rewards[0], beta) > before


def test_repeated_steps_lead_to_the_best_policy() -> None:
    beta = 0.1
    logits = LOGITS.clone().requires_grad_()
    estimator = DAPS(beta, 0.5, samples=16)
    optimizer = torch.optim.Adam([logits], 0.1)
    for _ in range(150):
        evidence, _ = drawn(logits.expand(4, 2, 3), REWARDS.expand(4, 9), 16)
        estimator(evidence).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert objective(logits, REWARDS, beta) > REWARDS.max() - 0.1


@pytest.mark.parametrize("control_variate", [False, True])
def test_the_gradient_is_that_of_the_two_losses(control_variate: bool) -> None:
    log_likelihood, log_q = torch.randn(8, 5, requires_grad=True), torch.randn(8, 5, requires_grad=True)
    evidence = Evidence(log_likelihood, log_q, log_q.detach(), torch.ones(5, requires_grad=True), torch.zeros(5))
    estimator = DAPS(control_variate=control_variate)
    of_decoder, of_encoder, of_rate = torch.autograd.grad(
        estimator(evidence).sum(), [log_likelihood, log_q, evidence.rate], allow_unused=True
    )
    torch.testing.assert_close(of_decoder, torch.full((8, 5), -1 / 8))
    torch.testing.assert_close(of_encoder, control_variate / 8 - estimator.target(evidence).weights)
    assert of_rate is None


def test_a_decoder_of_few_samples_leaves_the_loss_and_the_gradient_of_the_encoder() -> None:
    log_likelihood, log_q = torch.randn(8, 5, requires_grad=True), torch.randn(8, 5, requires_grad=True)
    evidence = Evidence(log_likelihood, log_q, log_q.detach(), torch.ones(5), torch.zeros(5))
    losses = [DAPS(decoder_samples=given)(evidence) for given in (None, 2)]
    torch.testing.assert_close(*losses)
    of_all, of_two = (torch.autograd.grad(loss.sum(), [log_likelihood, log_q]) for loss in losses)
    assert torch.equal(of_all[1], of_two[1])
    torch.testing.assert_close(of_two[0], torch.tensor([[-1 / 2]] * 2 + [[0.0]] * 6).expand(8, 5))


@pytest.mark.parametrize("given", [0, 9])
def test_a_decoder_learns_from_some_of_the_samples(given: int) -> None:
    with pytest.raises(NarrowsError, match=rf"DAPS.decoder_samples is {given}: it must be from 1 to samples, 8"):
        DAPS(decoder_samples=given)


def test_the_control_variate_leaves_the_mean_gradient_and_lowers_its_variance() -> None:
    """Over 20,000 single gradients, each from 8 samples of one example; at a high target it is most of the noise."""
    runs = 20_000
    logits, rewards = LOGITS.repeat(runs, 1, 1).requires_grad_(), REWARDS.expand(runs, 9)
    evidence, _ = drawn(logits, rewards, 8)
    published, quiet = (
        torch.autograd.grad(DAPS(0.1, 0.9, 8, given)(evidence).sum(), logits, retain_graph=True)[0]
        for given in (False, True)
    )
    difference = published - quiet
    assert (difference.mean(0).abs() < 4 * difference.std(0) / math.sqrt(runs)).all()
    assert (quiet.var(0) < 0.7 * published.var(0)).all()


SPOILT = {
    "all equal": torch.full((8, 3), -700.0),
    "all minus infinity": torch.full((8, 3), -math.inf),
    "one minus infinity": torch.randn(8, 3).index_fill(0, torch.tensor([2]), -math.inf),
    "one infinity": torch.randn(8, 3).index_fill(0, torch.tensor([2]), math.inf),
    "one not a number": torch.randn(8, 3).index_fill(0, torch.tensor([2]), math.nan),
}


@pytest.mark.parametrize("beta", [0.0, 0.01])
@pytest.mark.parametrize("name", SPOILT)
def test_spoilt_log_likelihoods_give_finite_weights_and_a_warning(
    name: str, beta: float, caplog: pytest.LogCaptureFixture
) -> None:
    log_q = torch.full((8, 3), -2.0, requires_grad=True)
    evidence = Evidence(SPOILT[name], log_q, log_q, log_q[0], log_q[0])
    estimator = DAPS(beta)
    with caplog.at_level(logging.WARNING):
        loss = estimator(evidence)
    assert "in 1 of 1 batches in a row the log-likelihoods were infinite, or did not depend" in caplog.text
    found = estimator.target(evidence)
    torch.testing.assert_close(found.weights.sum(0), torch.ones(3))
    assert found.eta.isfinite()
    (gradient,) = torch.autograd.grad(loss.sum(), log_q)
    torch.testing.assert_close(gradient, 1 / 8 - found.weights)
    if name.startswith("all"):
        torch.testing.assert_close(found.weights, torch.full((8, 3), 1 / 8))
    else:
        assert (found.weights[2] == 0).all()
        assert (found.weights > 0).sum() > 3


@pytest.mark.parametrize("value", [-math.inf, math.inf, math.nan])
def test_the_loss_is_that_of_the_samples_with_finite_log_likelihoods(value: float) -> None:
    beta = 0.1
    spoilt = torch.zeros(8, 4, dtype=torch.bool)
    spoilt[2, 0] = spoilt[:5, 1] = spoilt[:, 2] = True  # one, most and all of an example's, and none
    log_likelihood = (10 * torch.randn(8, 4)).masked_fill(spoilt, value).requires_grad_()
    log_q = (-torch.rand(8, 4)).requires_grad_()
    evidence = Evidence(log_likelihood, log_q, log_q, torch.rand(4), log_q[0])
    estimator = DAPS(beta)
    loss = estimator(evidence)
    of_decoder, of_encoder = torch.autograd.grad(loss.sum(), [log_likelihood, log_q])
    eta = estimator.target(evidence).eta
    for b in (0, 1, 3):
        kept = ~spoilt[:, b]
        likelihoods, log_qs = log_likelihood[kept, b].detach(), log_q[kept, b].detach()
        torch.testing.assert_close(loss[b], beta * evidence.rate[b] - likelihoods.mean())
        torch.testing.assert_close(of_decoder[kept, b], torch.full_like(likelihoods, -1 / len(likelihoods)))
        torch.testing.assert_close(
            of_encoder[kept, b], 1 / 8 - ((likelihoods - beta * log_qs) / (eta + beta)).softmax(0)
        )
    assert loss[2] == beta * evidence.rate[2]
    assert (of_decoder[spoilt] == 0).all()
    assert (of_encoder[spoilt & ~spoilt.all(0)] == 1 / 8).all()  # as of samples without any weight
    assert (of_encoder[:, 2] == 0).all()


def test_batches_are_watched_in_training_alone(caplog: pytest.LogCaptureFixture) -> None:
    log_q = torch.full((8, 3), -2.0)
    estimator = DAPS().eval()
    with caplog.at_level(logging.WARNING):
        estimator(Evidence(SPOILT["all equal"], log_q, log_q, log_q[0], log_q[0]))
    assert caplog.text == ""
    assert (estimator.troubled, estimator.batches) == (0, 0)


def test_a_healthy_batch_gives_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    evidence, _ = drawn(LOGITS[None], REWARDS[None], 8)
    with caplog.at_level(logging.WARNING):
        DAPS()(evidence)
    assert caplog.text == ""
