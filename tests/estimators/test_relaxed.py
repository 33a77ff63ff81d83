import math

import pytest
import torch
from torch import Tensor

from narrows.bottlenecks import Categorical, CategoricalPosterior
from narrows.estimators import GumbelRao, GumbelSoftmax, StraightThroughGumbel
from narrows.estimators.rao_blackwell import conditional_gumbel

EULER = 0.5772156649
LOGITS = torch.tensor([1.0, -0.5, 0.3, -2.0])


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def posterior() -> CategoricalPosterior:
    return Categorical(dim=2, codebook_size=4)(torch.randn(3, 4, 5))


def test_the_temperature_falls_by_one_factor_a_training_draw_and_then_stays() -> None:
    estimator = GumbelSoftmax(temperature=2.0, final_temperature=0.5, annealing_steps=4)
    used = []
    for _ in range(6):
        estimator.draw(posterior())
        used.append(estimator.figures["temperature"].item())
    assert used == pytest.approx([2, math.sqrt(2), 1, math.sqrt(0.5), 0.5, 0.5])


def test_the_temperature_goes_on_where_it_was_saved_and_a_measurement_leaves_it_alone() -> None:
    estimator = GumbelSoftmax(annealing_steps=10)
    for _ in range(3):
        estimator.draw(posterior())
    estimator.eval().draw(posterior())
    resumed = GumbelSoftmax(annealing_steps=10)
    resumed.load_state_dict(estimator.state_dict())
    assert resumed.steps == 3
    assert torch.equal(resumed.temperature, estimator.temperature)


@pytest.mark.parametrize("kind", [GumbelSoftmax, StraightThroughGumbel, GumbelRao])
def test_weights_sum_to_one_and_their_largest_has_the_category_s_probability(kind: type[GumbelSoftmax]) -> None:
    draws = 100_000
    weights = kind().relax(LOGITS.expand(draws, 4))
    torch.testing.assert_close(weights.sum(-1), torch.ones(draws))
    p = LOGITS.softmax(0)
    shares = torch.bincount(weights.argmax(-1), minlength=4) / draws
    assert ((shares - p).abs() < 4 * (p * (1 - p) / draws).sqrt()).all()


@pytest.mark.parametrize("kind", [StraightThroughGumbel, GumbelRao])
def test_straight_through_weights_are_exactly_one_hot(kind: type[GumbelSoftmax]) -> None:
    weights = kind().relax(torch.randn(1000, 7))
    assert set(weights.unique().tolist()) == {0.0, 1.0}
    assert (weights.sum(-1) == 1).all()


def test_a_low_temperature_makes_soft_weights_nearly_one_hot() -> None:
    hot = GumbelSoftmax(temperature=0.01, final_temperature=0.01).relax(torch.randn(1000, 7))
    assert (hot.amax(-1) > 0.99).float().mean() > 0.95


def test_conditional_gumbel_noise_leads_to_its_category_and_mixes_to_plain_noise() -> None:
    """Averaged over the categories, every entry is its logit and Gumbel noise: mean 0.577, variance pi^2 / 6."""
    draws = 200_000
    category = torch.multinomial(LOGITS.softmax(0), draws, replacement=True)
    noisy = conditional_gumbel(LOGITS.expand(draws, 4), category)
    assert torch.equal(noisy.argmax(-1), category)
    noise = noisy - LOGITS
    assert ((noise.mean(0) - EULER).abs() < 4 * noise.std(0) / math.sqrt(draws)).all()
    torch.testing.assert_close(noise.var(0), torch.full((4,), math.pi**2 / 6), rtol=0.03, atol=0)
    plain = LOGITS - torch.empty(draws, 4).exponential_().log()
    torch.testing.assert_close(noisy.T.cov(), plain.T.cov(), rtol=0.05, atol=0.03)


@pytest.mark.parametrize("kind", [GumbelSoftmax, StraightThroughGumbel, GumbelRao])
def test_extreme_logits_give_finite_weights_and_gradients(kind: type[GumbelSoftmax]) -> None:
    logits = torch.tensor([[0.0, 1e4, -1e4], [-300.0, -300.0, 300.0]]).log_softmax(-1).requires_grad_()
    weights = kind(temperature=0.1, final_temperature=0.1).relax(logits.expand(50, 2, 3))
    (gradient,) = torch.autograd.grad((weights * torch.randn(50, 2, 3)).sum(), logits)
    assert weights.isfinite().all()
    assert gradient.isfinite().all()


def test_the_gradient_reaches_encoder_and_embeddings() -> None:
    bottleneck, features = Categorical(dim=2, codebook_size=4), torch.randn(3, 4, 5, requires_grad=True)
    for estimator in (GumbelSoftmax(samples=2), StraightThroughGumbel(samples=2), GumbelRao(samples=2)):
        draw = estimator.draw(bottleneck(features))
        assert draw.z.shape == (2, 3, 2, 5)
        gradients: tuple[Tensor, ...] = torch.autograd.grad(draw.z.square().sum(), [features, bottleneck.embeddings])
        assert all(gradient.abs().sum() > 0 for gradient in gradients)
