import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from narrows.bottlenecks.gaussian import Gaussian, GaussianPosterior


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def reference(posterior: GaussianPosterior) -> Normal:
    return Normal(posterior.mean, (posterior.log_variance / 2).exp())


def test_rate_is_the_kl_divergence() -> None:
    posterior = Gaussian(3)(torch.randn(4, 6, 2, 2))
    kl = kl_divergence(reference(posterior), Normal(0.0, 1.0))
    torch.testing.assert_close(posterior.rate, kl.sum((1, 2, 3)))


def test_rate_is_the_mean_log_ratio_of_draws() -> None:
    posterior = Gaussian(3)(torch.randn(4, 6, 5))
    draw = posterior.draw(20_000)
    ratio = draw.log_q - draw.log_p
    assert ((ratio.mean(0) - posterior.rate).abs() < 4 * ratio.std(0) / math.sqrt(20_000)).all()


def test_draw_agrees_with_torch_distributions() -> None:
    posterior = Gaussian(3)(torch.randn(4, 6, 2, 2))
    draw = posterior.draw(7)
    assert draw.z.shape == (7, 4, 3, 2, 2)
    torch.testing.assert_close(draw.log_q, reference(posterior).log_prob(draw.z).sum((2, 3, 4)))
    torch.testing.assert_close(draw.log_p, Normal(0.0, 1.0).log_prob(draw.z).sum((2, 3, 4)))


def test_posterior_at_the_prior_costs_nothing() -> None:
    posterior = Gaussian(2)(torch.zeros(3, 4, 5))
    assert torch.equal(posterior.rate, torch.zeros(3))
    assert posterior.statistics["active_units"] == 0
    assert torch.equal(posterior.mode, torch.zeros(3, 2, 5))
    assert posterior.codes is None
    assert posterior.losses == {}


def test_active_units_counts_dimensions_whose_mean_kl_exceeds_a_hundredth() -> None:
    """With sigma = 1 the KL is mu^2 / 2; the batch averages it."""
    features = torch.zeros(2, 4, 3)
    features[:, 0, 0] = math.sqrt(2 * 0.011)
    features[0, 1, 2] = math.sqrt(2 * 0.019)
    features[0, 1, 1] = math.sqrt(2 * 0.021)
    assert Gaussian(2)(features).statistics["active_units"] == 2


def test_pathwise_gradient_of_a_quadratic() -> None:
    """E_q[(z - a)^2] = (mu - a)^2 + sigma^2: gradients 2 (mu - a) and sigma^2 by log sigma^2, per draw unbiased."""
    draws, a = 100_000, 0.7
    mean = torch.full((draws, 1, 1), -0.4, requires_grad=True)
    log_variance = torch.full((draws, 1, 1), -1.2, requires_grad=True)
    z = GaussianPosterior(mean, log_variance).draw().z
    ((z - a) ** 2).sum().backward()
    for gradient, exact in [(mean.grad, 2 * (-0.4 - a)), (log_variance.grad, math.exp(-1.2))]:
        assert gradient is not None
        assert abs(gradient.mean() - exact) < 4 * gradient.std() / math.sqrt(draws)


@pytest.mark.parametrize("size", [1e2, 1e4, 1e6])
def test_extreme_features_stay_finite_and_keep_a_gradient(size: float) -> None:
    features = (size * (torch.randint(2, (64, 4, 3)) * 2.0 - 1)).requires_grad_()
    posterior = Gaussian(2)(features)
    draw = posterior.draw(3)
    assert all(tensor.isfinite().all() for tensor in (*draw[:4], posterior.rate))
    (posterior.rate.sum() + (draw.log_q - draw.log_p).sum()).backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()
    assert (features.grad != 0).all()


def test_log_variance_is_the_feature_near_zero_and_bounded_far_from_it() -> None:
    raw = torch.tensor([-1e6, -1e-3, 0.0, 1e-3, 1e6])
    log_variance = Gaussian(1)(torch.stack([torch.zeros(5), raw]).unsqueeze(0)).log_variance.flatten()
    torch.testing.assert_close(log_variance, torch.tensor([-20, -1e-3, 0, 1e-3, 20]), rtol=1e-4, atol=0)


def test_float32_whatever_the_autocast() -> None:
    bottleneck, features = Gaussian(3), torch.randn(4, 6, 5).bfloat16()
    expected = bottleneck(features.float())
    torch.manual_seed(1)
    expected_draw = expected.draw(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        posterior = bottleneck(features)
        torch.manual_seed(1)
        draw = posterior.draw(2)
    for actual, wanted in zip((posterior.rate, *draw[:4]), (expected.rate, *expected_draw[:4]), strict=True):
        assert actual.dtype == torch.float32
        torch.testing.assert_close(actual, wanted, rtol=0, atol=0)


def test_prior_samples_are_standard_normal() -> None:
    z = Gaussian(4).sample_prior(1000, (5, 5))
    assert z.shape == (1000, 4, 5, 5)
    assert abs(z.mean()) < 4 / math.sqrt(z.numel())
    assert abs(z.var() - 1) < 4 * math.sqrt(2 / z.numel())


def test_foreign_features_are_refused() -> None:
    with pytest.raises(ValueError, match="needs 4 features"):
        Gaussian(2)(torch.zeros(1, 2, 4))


def test_importance_weighted_bound_lies_between_the_elbo_and_the_evidence() -> None:
    """x = W z + noise, so log p(x) = log N(x; 0, W W^T + s^2 I); q is near the true posterior, but not it."""
    weights, s = torch.tensor([[1.0, 0.3], [-0.5, 0.8], [0.2, 0.6]]), 0.5
    x = torch.tensor([0.9, -0.4, 0.7])
    evidence = MultivariateNormal(torch.zeros(3), weights @ weights.T + s**2 * torch.eye(3)).log_prob(x).item()
    covariance = torch.linalg.inv(torch.eye(2) + weights.T @ weights / s**2)
    mean = covariance @ weights.T @ x / s**2

    repeats = 20_000
    features = torch.cat([mean + 0.3, covariance.diagonal().log() + 0.3])
    posterior = Gaussian(2)(features.expand(repeats, -1).unsqueeze(-1))

    def log_likelihood(z: Tensor) -> Tensor:
        return Normal(z.squeeze(-1) @ weights.T, s).log_prob(x).sum(-1)

    def bound(samples: int) -> tuple[float, float]:
        z, log_q, log_p = posterior.draw(samples)[:3]
        iw = (log_likelihood(z) + log_p - log_q).logsumexp(0) - math.log(samples)
        return iw.mean().item(), iw.std().item() / math.sqrt(repeats)

    elbo = log_likelihood(posterior.draw().z) - posterior.rate
    elbo_mean, elbo_error = elbo.mean().item(), elbo.std().item() / math.sqrt(repeats)
    (one, one_error), (eight, eight_error), (many, many_error) = bound(1), bound(8), bound(64)
    assert abs(one - elbo_mean) < 4 * math.hypot(one_error, elbo_error)
    assert elbo_mean + 4 * elbo_error < eight - 4 * eight_error < eight + 4 * eight_error < many - 4 * many_error
    assert many < evidence + 4 * many_error
    assert evidence - many < 0.1 * (evidence - elbo_mean)
