import math

import torch

from narrows.estimators import Evidence, ImportanceWeighted, Pathwise, elbo, importance_weighted_bound


def enumerable_evidence(samples: int) -> tuple[Evidence, float]:
    """z in {0, 1, 2}, one x: every quantity is known; z is drawn from q."""
    p, q, likelihood = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.2, 0.6]), torch.tensor([0.1, 0.4, 0.05])
    z = torch.multinomial(q, samples * 10_000, replacement=True).view(samples, 10_000)
    rate = (q * (q / p).log()).sum().expand(10_000)
    return Evidence(likelihood.log()[z], q.log()[z], p.log()[z], rate), math.log((p * likelihood).sum())


def test_the_bounds_stay_below_log_p_and_tighten_with_the_samples() -> None:
    torch.manual_seed(0)
    means = []
    for samples in (1, 4, 32):
        evidence, log_p = enumerable_evidence(samples)
        means.append(importance_weighted_bound(evidence).mean().item())
    assert means[0] < means[1] < means[2] < log_p + 1e-3
    assert log_p - means[2] < 0.1 * (log_p - means[0])
    assert abs(elbo(enumerable_evidence(1)[0]).mean().item() - means[0]) < 0.02


def test_pathwise_weighs_the_rate_by_beta() -> None:
    evidence, _ = enumerable_evidence(2)
    torch.testing.assert_close(Pathwise()(evidence), -elbo(evidence))
    torch.testing.assert_close(Pathwise(beta=3)(evidence) - Pathwise(beta=1)(evidence), 2 * evidence.rate)


def test_importance_weighting_of_one_sample_is_the_sampled_elbo() -> None:
    evidence, _ = enumerable_evidence(1)
    expected = evidence.log_q - evidence.log_p - evidence.log_likelihood
    torch.testing.assert_close(ImportanceWeighted(samples=1)(evidence), expected[0])
