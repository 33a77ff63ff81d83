"""The probabilities of all levels, against `log_prob`, against samples and against SciPy."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from scipy import stats  # type: ignore[import-untyped]
from torch import Size, Tensor

from narrows.errors import NarrowsError
from narrows.likelihoods import (
    Bernoulli,
    Categorical,
    DiscretizedLogistic,
    DiscretizedLogisticMixture,
    GaussianCalibrated,
    GaussianFixed,
    GaussianPerDimension,
    GaussianShared,
    Likelihood,
    MuLawCategorical,
    Observation,
)

EXACT: dict[str, Callable[[], Likelihood]] = {
    "bernoulli": lambda: Bernoulli(2),
    "categorical": lambda: Categorical(2, categories=5),
    "mu-law": lambda: MuLawCategorical(2, levels=8),
    "logistic": lambda: DiscretizedLogistic(2, levels=256),
    "mixture": lambda: DiscretizedLogisticMixture(3, components=4, levels=16),
    "mixture of one channel": lambda: DiscretizedLogisticMixture(1, components=4, levels=256),
}
GAUSSIAN: dict[str, Callable[[], Likelihood]] = {
    "fixed": lambda: GaussianFixed(2, levels=256),
    "calibrated": lambda: GaussianCalibrated(2, levels=16).eval(),
    "shared": lambda: GaussianShared(2, levels=16),
    "per dimension": lambda: GaussianPerDimension(2, levels=16),
}
ALL = {**EXACT, **GAUSSIAN}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def observed(name: str, spread: float = 1.0) -> tuple[Observation, Tensor, Tensor]:
    """An observation of two examples on a grid of 3 by 2, data, and the numbers of their levels."""
    model = ALL[name]()
    observation = model(spread * torch.randn(2, model.features, 3, 2))
    index = torch.randint(len(observation.values), observation.shape)
    return observation, observation.values[index], index


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("spread", [0.1, 1.0, 10.0])
def test_the_probabilities_of_the_levels_sum_to_one(name: str, spread: float) -> None:
    observation, x, _ = observed(name, spread)
    pmf = observation.pmf(x)
    assert pmf.shape == (*x.shape, len(observation.values))
    torch.testing.assert_close(pmf.sum(-1), torch.ones(x.shape), rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("spread", [0.1, 1.0, 5.0])
def test_those_at_the_data_are_the_log_probability(name: str, spread: float) -> None:
    observation, x, index = observed(name, spread)
    gathered = observation.log_pmf(x).gather(-1, index.unsqueeze(-1)).flatten(1).sum(1)
    torch.testing.assert_close(gathered, observation.log_prob(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ALL)
def test_the_values_are_those_that_samples_take(name: str) -> None:
    observation, _, _ = observed(name)
    sample = observation.sample()
    assert torch.isclose(sample.unsqueeze(-1).float(), observation.values.float()).any(-1).all()


@pytest.mark.parametrize("name", GAUSSIAN)
def test_gaussian_levels_have_the_probability_of_their_bins(name: str) -> None:
    observation, _, _ = observed(name)
    location, scale = observation.mean.double(), observation.scale.double()  # type: ignore[attr-defined]
    scale = scale.expand(location.shape)
    half = (observation.values[1] / 2).item()
    for level, value in enumerate(observation.values.tolist()):
        top = stats.norm.cdf(value + half, location.detach(), scale.detach()) if value < 1 else 1.0
        bottom = stats.norm.cdf(value - half, location.detach(), scale.detach()) if value > 0 else 0.0
        expected = torch.as_tensor(top - bottom).float()
        torch.testing.assert_close(observation.pmf()[..., level].detach(), expected, rtol=1e-3, atol=1e-6)


def test_a_gaussian_log_prob_is_a_bound_on_the_probability_of_its_level() -> None:
    observation, x, index = observed("fixed", spread=0.1)
    bounds = torch.stack([observation.log_prob(x) for _ in range(2_000)])
    exact = observation.log_pmf().gather(-1, index.unsqueeze(-1)).flatten(1).sum(1)
    assert (bounds.mean(0) < exact + 4 * bounds.std(0) / 2_000**0.5).all()


def test_far_gaussian_levels_keep_the_digits_of_their_probability() -> None:
    """Forty standard deviations out, where a difference of distribution functions would be zero."""
    observation = GaussianFixed(1, scale=0.025, levels=256)(torch.full((1, 1, 1), -0.5))
    wanted = stats.norm.logcdf(-(1 - 0.5 / 255) / 0.025)
    assert observation.log_pmf()[..., -1].item() == pytest.approx(wanted, rel=1e-5)
    assert observation.log_pmf().isfinite().all()


def test_a_channel_of_a_mixture_reads_those_before_it_alone() -> None:
    observation, x, _ = observed("mixture")
    before = observation.log_pmf(x)
    for channel in range(3):
        other = x.clone()
        other[:, channel] = 1 - x[:, channel]
        after = observation.log_pmf(other)
        assert torch.equal(after[:, : channel + 1], before[:, : channel + 1])
        assert (after[:, channel + 1 :] != before[:, channel + 1 :]).any() or channel == 2
    with pytest.raises(NarrowsError, match="each of the 3 channels depends on those before it"):
        observation.log_pmf()
    with pytest.raises(NarrowsError, match="the data are"):
        observation.log_pmf(x[:, :2])


def test_channels_are_decoded_one_after_another() -> None:
    """As a receiver of coded data does: what it has not yet is filled with zeros."""
    observation, x, _ = observed("mixture")
    known = torch.zeros_like(x)
    for channel in range(3):
        assert torch.equal(observation.log_pmf(known)[:, channel], observation.log_pmf(x)[:, channel])
        known[:, channel] = x[:, channel]


class Continuous(Observation):
    """Of data without levels."""

    def _log_terms(self, x: Tensor) -> Tensor:
        return -x.square()

    @property
    def mean(self) -> Tensor:
        return torch.zeros(self.shape)

    def sample(self) -> Tensor:
        return self.mean


def test_continuous_data_have_no_levels() -> None:
    observation = Continuous(Size([1, 1, 1]))
    for asked in (lambda: observation.values, observation.pmf):
        with pytest.raises(NarrowsError, match="Continuous describes no discrete levels"):
            asked()
