import math
from collections.abc import Callable

import pytest
import torch
from torch._subclasses import FakeTensorMode

from narrows.bottlenecks import Bottleneck, Categorical, Gaussian, VectorQuantizer
from narrows.errors import NarrowsError
from narrows.estimators import (
    DAPS,
    REINFORCE,
    VIMCO,
    Estimator,
    Evidence,
    GumbelRao,
    GumbelSoftmax,
    ImportanceWeighted,
    LearnedBaseline,
    MovingAverage,
    NoBaseline,
    Pathwise,
    StraightThroughGumbel,
    elbo,
    importance_weighted_bound,
)


def enumerable_evidence(samples: int) -> tuple[Evidence, float]:
    """z in {0, 1, 2}, one x: every quantity is known; z is drawn from q."""
    p, q, likelihood = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.2, 0.6]), torch.tensor([0.1, 0.4, 0.05])
    z = torch.multinomial(q, samples * 10_000, replacement=True).view(samples, 10_000)
    rate = (q * (q / p).log()).sum().expand(10_000)
    evidence = Evidence(likelihood.log()[z], q.log()[z], p.log()[z], rate, torch.zeros(10_000, 1))
    return evidence, math.log((p * likelihood).sum())


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


@pytest.mark.parametrize("estimator", [Pathwise(), ImportanceWeighted()])
def test_a_pathwise_gradient_of_sampled_codes_is_refused(estimator: Estimator) -> None:
    posterior = Categorical(dim=2, codebook_size=4)(torch.zeros(1, 4))
    with pytest.raises(NarrowsError, match=f"{type(estimator).__name__} needs .* CategoricalPosterior have none"):
        estimator.draw(posterior)


@pytest.mark.parametrize("bottleneck", [Gaussian(channels=2), VectorQuantizer(dim=4, codebook_size=8)])
@pytest.mark.parametrize("estimator", [REINFORCE(), VIMCO(), DAPS(), GumbelSoftmax(), GumbelRao()])
def test_an_estimator_of_sampled_codes_refuses_other_posteriors(estimator: Estimator, bottleneck: Bottleneck) -> None:
    posterior = bottleneck.eval()(torch.zeros(1, 4, 3))
    with pytest.raises(NarrowsError, match=f"{type(estimator).__name__} estimates .* {type(posterior).__name__}"):
        estimator.draw(posterior)


@pytest.mark.parametrize("make", [DAPS, REINFORCE, VIMCO, GumbelSoftmax, StraightThroughGumbel, GumbelRao])
def test_no_loss_waits_for_the_device(make: Callable[[], Estimator]) -> None:
    """A fake tensor has no values: to read one on the way, as `item` does, is an error."""
    with FakeTensorMode():
        estimator, features = make(), torch.randn(4, 8, 3, requires_grad=True)
        estimator.batches = 1  # DAPS looks for trouble in every hundredth batch
        posterior = Categorical(dim=2, codebook_size=8)(features)
        draw = estimator.draw(posterior)
        log_likelihood = draw.z.flatten(2).sum(2)
        loss = estimator(Evidence(log_likelihood, draw.log_q, draw.log_p, posterior.rate, features))
        loss.sum().backward()
        assert loss.shape == (4,)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Pathwise(samples=0), "Pathwise.samples is 0: it must be at least 1"),
        (lambda: REINFORCE(samples=1), "REINFORCE.samples is 1: it must be at least 2"),
        (lambda: VIMCO(samples=1), "VIMCO.samples is 1: it must be at least 2"),
        (lambda: DAPS(samples=1), "DAPS.samples is 1: it must be at least 2"),
        (lambda: DAPS(ess_target=0.125, samples=8), "ess_target is 0.125: it must be between 1 / samples = 0.125"),
        (lambda: DAPS(ess_target=1.0), "ess_target is 1.0"),
        (lambda: DAPS(beta=-0.1), "beta is -0.1"),
        (lambda: GumbelSoftmax(temperature=0), "temperature is 0: it must be above 0"),
        (lambda: StraightThroughGumbel(final_temperature=-1), "final_temperature is -1"),
        (lambda: GumbelSoftmax(annealing_steps=0), "annealing_steps is 0"),
        (lambda: GumbelRao(conditional_draws=0), "conditional_draws is 0"),
        (lambda: MovingAverage(decay=1), r"decay is 1: it must be in \[0, 1\)"),
    ],
)
def test_impossible_settings_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_reinforce_with_one_sample_needs_a_baseline_that_does_with_one() -> None:
    assert REINFORCE(NoBaseline, samples=1).samples == 1


def test_the_moving_average_is_of_the_batches_before_and_of_training_alone() -> None:
    average, x = MovingAverage(decay=0.9), torch.zeros(2, 1)
    first = torch.tensor([[1.0, 7.0], [7.0, 13.0], [9.0, 5.0]])
    torch.testing.assert_close(average(first, x), (42 - first) / 5)
    torch.testing.assert_close(average(torch.full((3, 2), 1.0), x), torch.full((3, 2), 7.0))
    expected = (0.9 * 7 + 1) / 1.9
    average.eval()
    for _ in range(2):
        torch.testing.assert_close(average(torch.full((3, 2), 100.0), x), torch.full((3, 2), expected))


def test_a_learned_baseline_learns_the_reward_of_each_example() -> None:
    torch.manual_seed(0)
    x = torch.linspace(-1, 1, 64).unsqueeze(1)
    rewards = (3 * x.squeeze(1) - 500).expand(4, 64)
    estimator = REINFORCE(lambda: LearnedBaseline(inputs=1, width=16), samples=4)
    optimizer = torch.optim.Adam(estimator.parameters(), 0.02)
    zeros = torch.zeros(4, 64)
    residuals = []
    for _ in range(200):
        loss = estimator(Evidence(rewards, zeros, zeros, zeros[0], x)).mean()
        torch.testing.assert_close(loss.item(), -rewards.mean().item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        residuals.append(estimator.figures["advantage"].item())
    assert residuals[0] > 1.5
    assert residuals[-1] < 0.1


def test_a_learned_baseline_says_how_many_inputs_there_are() -> None:
    with pytest.raises(ValueError, match=r"LearnedBaseline.inputs is 3: set it to 12"):
        LearnedBaseline(inputs=3)(torch.zeros(2, 5), torch.zeros(5, 3, 2, 2))
