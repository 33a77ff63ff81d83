"""Densities of continuous data, against torch.distributions."""

import math

import pytest
import torch
from torch.distributions import Normal

from narrows.errors import NarrowsError
from narrows.likelihoods import GaussianDensityFixed, GaussianDensityShared, Likelihood

MODELS = [GaussianDensityFixed(3, scale=0.3), GaussianDensityShared(3, scale=0.3)]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("model", MODELS, ids=["fixed", "shared"])
def test_log_prob_is_that_of_the_normal_density(model: Likelihood) -> None:
    out, x = 5 * torch.randn(4, 3, 7), 5 * torch.randn(4, 3, 7)
    expected = Normal(out, 0.3).log_prob(x)
    torch.testing.assert_close(model(out).log_prob(x), expected.sum((1, 2)))
    counted = torch.rand(4, 7) < 0.5
    torch.testing.assert_close(
        model(out).log_prob(x, counted), expected.where(counted.unsqueeze(1), 0).sum((1, 2)), rtol=1e-5, atol=1e-4
    )
    assert torch.equal(model(out).mean, out)
    model.check(x)


@pytest.mark.parametrize("model", MODELS, ids=["fixed", "shared"])
def test_samples_have_the_mean_and_the_scale(model: Likelihood) -> None:
    out = torch.tensor([-10.0, 0, 200]).view(1, 3, 1).expand(1, 3, 20_000)
    drawn = model(out).sample()[0]
    torch.testing.assert_close(drawn.mean(1), out[0, :, 0], rtol=0, atol=0.01)
    torch.testing.assert_close(drawn.std(1), torch.full((3,), 0.3), rtol=0.03, atol=0)


def test_a_narrow_density_has_less_than_no_bits() -> None:
    out = torch.zeros(1, 1, 1)
    assert GaussianDensityFixed(1, scale=0.01)(out).log_prob(out) > 0


def test_the_learned_scale_becomes_the_error() -> None:
    model, x = GaussianDensityShared(2), 0.1 * torch.randn(50, 2, 40)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(400):
        optimiser.zero_grad()
        (-model(torch.zeros_like(x)).log_prob(x).mean() / 80).backward()
        optimiser.step()
    observation = model(torch.zeros_like(x))
    entropy = 0.5 * math.log(2 * math.pi * math.e * float(x.square().mean()))
    torch.testing.assert_close(-observation.log_prob(x).mean() / 80, torch.tensor(entropy), rtol=0, atol=1e-3)


def test_continuous_data_have_no_levels() -> None:
    with pytest.raises(NarrowsError, match="no discrete levels"):
        MODELS[0](torch.zeros(1, 3, 1)).log_pmf()


@pytest.mark.parametrize(("make", "scale"), [(GaussianDensityFixed, 0.0), (GaussianDensityShared, 0.001)])
def test_a_scale_too_small_is_refused(make: type[GaussianDensityFixed], scale: float) -> None:
    with pytest.raises(NarrowsError, match="scale must be"):
        make(3, scale)
