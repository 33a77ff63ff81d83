import itertools
import math
from collections.abc import Callable

import pytest
import torch
from scipy import stats
from torch import Tensor

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
    compand,
    mu_law_decode,
    mu_law_encode,
)

ALL: dict[str, Callable[[], Likelihood]] = {
    "bernoulli": lambda: Bernoulli(2),
    "gaussian-calibrated": lambda: GaussianCalibrated(2, levels=3).eval(),
    "gaussian-fixed": lambda: GaussianFixed(2, levels=3),
    "gaussian-shared": lambda: GaussianShared(2, scale=0.3, levels=3),
    "gaussian-per-dimension": lambda: GaussianPerDimension(2, levels=3),
    "logistic": lambda: DiscretizedLogistic(2, levels=3),
    "mixture": lambda: DiscretizedLogisticMixture(2, components=2, levels=3),
    "categorical": lambda: Categorical(2, categories=3),
    "mu-law": lambda: MuLawCategorical(2, levels=3),
}
VALUES = {
    "bernoulli": torch.tensor([0.0, 1.0]),
    "categorical": torch.arange(3),
    "mu-law": mu_law_decode(torch.arange(3), 3),
}
THIRDS = torch.tensor([0.0, 0.5, 1.0])
EXACT = [name for name in ALL if not name.startswith("gaussian")]
GAUSSIANS = [name for name in ALL if name.startswith("gaussian")]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def enumerated(name: str, channels: int = 2) -> Tensor:
    """Every datum of one position, [N, C, 1]."""
    values = VALUES.get(name, THIRDS)
    return torch.stack([torch.stack(x) for x in itertools.product(values, repeat=channels)]).unsqueeze(-1)


def some_data(name: str, *shape: int) -> Tensor:
    values = VALUES.get(name, THIRDS)
    return values[torch.randint(len(values), shape)]


def distribution(name: str, out: Tensor) -> tuple[Tensor, Tensor]:
    """All data of one position and their log-probabilities, given outputs [features]."""
    x = enumerated(name)
    return x, ALL[name]()(out.expand(len(x), -1).unsqueeze(-1)).log_prob(x)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("spread", [0.1, 1.0, 5.0])
def test_probabilities_sum_to_one(name: str, spread: float) -> None:
    _, log_prob = distribution(name, spread * torch.randn(ALL[name]().features))
    assert log_prob.logsumexp(0).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_mixture_sums_to_one_with_any_number_of_channels(channels: int) -> None:
    x = enumerated("mixture", channels)
    model = DiscretizedLogisticMixture(channels, components=3, levels=3)
    out = torch.randn(1, model.features, 1).expand(len(x), -1, -1)
    assert model(out).log_prob(x).logsumexp(0).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("grid", [(5,), (2, 3)])
def test_positions_are_independent_on_any_grid(name: str, grid: tuple[int, ...]) -> None:
    model = ALL[name]()
    out, x = torch.randn(4, model.features, *grid), some_data(name, 4, 2, *grid)
    observation = model(out)
    assert observation.mean.shape == observation.sample().shape == x.shape
    assert observation.mean.dtype == observation.sample().dtype == x.dtype
    torch.manual_seed(1)
    whole = observation.log_prob(x)
    assert whole.shape == (4,)
    if name in EXACT:
        parts = zip(out.flatten(2).unbind(2), x.flatten(2).unbind(2), strict=True)
        torch.testing.assert_close(whole, sum(model(o[..., None]).log_prob(v[..., None]) for o, v in parts))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("grid", [(5,), (2, 3), (2, 2, 2)], ids=str)
def test_only_counted_positions_count(name: str, grid: tuple[int, ...]) -> None:
    """Of each example others; of the last, none."""
    model = ALL[name]()
    out, x = torch.randn(4, model.features, *grid).requires_grad_(), some_data(name, 4, 2, *grid)
    counted = torch.rand(4, *grid) < 0.5
    counted[-1] = False
    assert counted.any()

    def log_prob(x: Tensor, counted: Tensor | None) -> Tensor:
        torch.manual_seed(1)  # of the noise in a bound
        return model(out).log_prob(x, counted)

    found = log_prob(x, counted)
    assert found.shape == (4,)
    assert found[-1] == 0
    torch.testing.assert_close(found + log_prob(x, ~counted), log_prob(x, None))
    torch.testing.assert_close(log_prob(x, torch.ones_like(counted)), log_prob(x, None))
    padding = some_data(name, 4, 2, *grid)
    assert torch.equal(log_prob(x.where(counted.unsqueeze(1), padding), counted), found)
    (gradient,) = torch.autograd.grad(found.sum(), out)
    assert not gradient.movedim(1, -1)[~counted].any()
    assert gradient.movedim(1, -1)[counted].any(1).all()
    if name in EXACT:
        for place in counted.nonzero().tolist():
            example, *position = place
            at = (slice(example, example + 1), slice(None), *(slice(one, one + 1) for one in position))
            found = found - model(out[at]).log_prob(x[at]) * torch.eye(4)[example]
        torch.testing.assert_close(found, torch.zeros(4), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", EXACT)
def test_samples_follow_the_probabilities(name: str) -> None:
    draws = 20_000
    out = torch.randn(ALL[name]().features)
    x, log_prob = distribution(name, out)
    samples = ALL[name]()(out.expand(draws, -1).unsqueeze(-1)).sample()
    frequency = (samples.unsqueeze(1) == x).flatten(2).all(2).float().mean(0)
    assert frequency.sum().item() == pytest.approx(1)
    p = log_prob.exp()
    assert ((frequency - p).abs() <= 4 * (p * (1 - p) / draws).sqrt()).all()


@pytest.mark.parametrize("name", ["bernoulli", "mu-law"])
def test_mean_is_the_expectation(name: str) -> None:
    out = torch.randn(ALL[name]().features)
    x, log_prob = distribution(name, out)
    expected = (log_prob.exp()[:, None, None] * x).sum(0)
    torch.testing.assert_close(ALL[name]()(out[None, :, None]).mean[0], expected)


def test_categorical_mean_is_the_most_probable_datum() -> None:
    x, log_prob = distribution("categorical", out := torch.randn(6))
    assert torch.equal(ALL["categorical"]()(out[None, :, None]).mean[0], x[log_prob.argmax()])


@pytest.mark.parametrize("name", [*GAUSSIANS, "mixture"])
def test_mean_agrees_with_samples(name: str) -> None:
    """Over 256 levels, with tails that stay within [0, 1]."""
    model = {
        "gaussian-calibrated": GaussianCalibrated(3).eval(),
        "gaussian-fixed": GaussianFixed(3, scale=0.05),
        "gaussian-shared": GaussianShared(3, scale=0.05),
        "gaussian-per-dimension": GaussianPerDimension(3),
        "mixture": DiscretizedLogisticMixture(3, components=2),
    }[name]
    out = 0.1 * torch.randn(model.features, 1)
    if name == "gaussian-per-dimension":
        out[3:] -= 3
    if name == "mixture":
        out = out.unflatten(0, (2, -1))
        out[:, 4:7] -= 5
        out[:, 7:] *= 10
        out = out.flatten(0, 1)
    samples = model(out.expand(20_000, -1, -1)).sample()
    error = (samples.mean(0) - model(out[None]).mean[0]).abs()
    assert (error <= 4 * samples.std(0) / math.sqrt(20_000)).all()


@pytest.mark.parametrize(("raw_scale", "tolerance"), [(-20.0, 0.5 / 255), (-2.6, 5e-5), (0.5, 2e-5), (13.0, 2e-5)])
def test_logistic_mean_is_that_of_the_levels(raw_scale: float, tolerance: float) -> None:
    model = DiscretizedLogistic(1)
    levels = torch.arange(256) / 255
    for offset in [-3.0, -0.5, -0.2, 0.123, 0.5, 3.0]:
        out = torch.tensor([offset, raw_scale]).expand(256, -1).unsqueeze(-1)
        observation = model(out)
        exact = (observation.log_prob(levels[:, None, None]).exp() * levels).sum()
        assert observation.mean[0].item() == pytest.approx(exact.item(), abs=tolerance)


@pytest.mark.parametrize("raw_scale", [-6.0, -2.0, 1.0])
def test_logistic_agrees_with_scipy(raw_scale: float) -> None:
    """In double precision; the edge bins hold the whole tails."""
    levels, width, offset = torch.arange(256).double() / 255, 1 / 255, 0.1
    out = torch.tensor([offset, raw_scale]).expand(256, -1).unsqueeze(-1)
    scale = width / 20 + math.log1p(math.exp(raw_scale)) / 10
    law = stats.logistic(0.5 + offset, scale)
    expected = torch.from_numpy(law.cdf(levels + width / 2) - law.cdf(levels - width / 2))
    expected[0], expected[-1] = law.cdf(width / 2), law.sf(1 - width / 2)
    actual = DiscretizedLogistic(1)(out).log_prob(levels.float()[:, None, None])
    torch.testing.assert_close(actual.double().exp(), expected, rtol=1e-4, atol=1e-12)


def test_logistic_keeps_its_tail_where_the_cdf_has_underflowed() -> None:
    """A bin d away at scale s has log P = -(d - w/2) / s + log(1 - exp(-w/s)), though P itself is 0 in float32."""
    out = torch.tensor([[[0.5 - 1 / 255], [-20.0]]])
    scale = 1 / 255 / 20
    log_prob = DiscretizedLogistic(1)(out).log_prob(torch.full((1, 1, 1), 1 / 255))
    assert log_prob.item() == pytest.approx(-(1 - 2.5 / 255) / scale, rel=1e-4)


def test_mixture_of_equal_components_without_coefficients_is_one_logistic() -> None:
    out = torch.randn(4, 2, 3, 2, 2)
    component = torch.cat([torch.zeros(4, 1, 2, 2), out.flatten(1, 2), torch.zeros(4, 3, 2, 2)], dim=1)
    x = torch.randint(256, (4, 3, 2, 2)) / 255
    torch.testing.assert_close(
        DiscretizedLogisticMixture(3, components=5)(component.repeat(1, 5, 1, 1)).log_prob(x),
        DiscretizedLogistic(3)(out.flatten(1, 2)).log_prob(x),
    )


def test_mixture_channel_leans_on_those_before_it() -> None:
    """One component, a scale of a fraction of a level: mu_2 = 1/2 + out + tanh(a) (x_1 - 1/2)."""
    model = DiscretizedLogisticMixture(2, components=1)
    coefficient = 0.6
    out = torch.tensor([0.0, 0.3, 0.0, -20.0, -20.0, math.atanh(coefficient)])[None, :, None]
    first, second = model(out).sample().flatten().tolist()
    assert first == pytest.approx(0.8, abs=1 / 255)
    assert second == pytest.approx(0.5 + coefficient * 0.3, abs=1 / 255)


@pytest.mark.parametrize("model", [GaussianFixed(1, scale=0.3), GaussianShared(1, scale=0.3)], ids=["fixed", "shared"])
def test_scales_start_where_they_are_set(model: Likelihood) -> None:
    samples = model(torch.zeros(1, 1, 100_000)).sample()
    law = stats.norm(0.5, 0.3)
    assert (samples == 0).float().mean().item() == pytest.approx(law.cdf(0.5 / 255), abs=4e-3)
    assert (samples < 0.25).float().mean().item() == pytest.approx(law.cdf(0.25), abs=6e-3)


@pytest.mark.parametrize(("scale_in_bins", "gap"), [(0.5, 0.1), (1.0, 0.025), (20.0, 6e-5)])
@pytest.mark.parametrize("distance", [0.0, 0.7])
def test_gaussian_bounds_the_integrated_probability(scale_in_bins: float, distance: float, gap: float) -> None:
    """The bound's expectation has a closed form, as E[u^2] = w^2 / 12; the distance is in standard deviations."""
    width, x, calls = 1 / 255, 130 / 255, 50_000
    scale = scale_in_bins * width
    mean = x - distance * scale
    law = stats.norm(mean, scale)
    exact = math.log(law.cdf(x + width / 2) - law.cdf(x - width / 2))
    expected = math.log(width) + law.logpdf(x) - width**2 / 24 / scale**2
    bound = GaussianFixed(1, scale)(torch.full((calls, 1, 1), mean - 0.5)).log_prob(torch.full((calls, 1, 1), x))
    error = bound.std() / math.sqrt(calls)
    assert abs(bound.mean() - expected) < 4 * error + 1e-5
    assert bound.mean() < exact + 4 * error + 1e-5
    assert 0 < exact - expected < gap


def test_the_best_scale_of_a_known_level_is_within_reach() -> None:
    """It is that of the noise, w / sqrt(12): the gradient vanishes there, above the lower bound w / 4."""
    width, calls = 1 / 255, 100_000
    raw = math.log(math.expm1(10 * (width / math.sqrt(12) - width / 4)))
    out = torch.tensor([128 / 255 - 0.5, raw]).repeat(calls, 1).unsqueeze(-1).requires_grad_()
    GaussianPerDimension(1)(out).log_prob(torch.full((calls, 1, 1), 128 / 255)).sum().backward()
    assert out.grad is not None
    assert (out.grad.mean(0).abs() < 4 * out.grad.std(0) / math.sqrt(calls)).all()


def test_the_calibrated_scale_is_that_of_the_greatest_likelihood() -> None:
    model, x = GaussianCalibrated(3), torch.randint(256, (64, 3, 4, 4)) / 255
    out = 0.2 * torch.randn(64, 3, 4, 4)
    for _ in range(3):
        model(out).log_prob(x)
    variance = model.variance.item()
    assert variance == pytest.approx((x - 0.5 - out).square().mean().item() + 1 / (12 * 255**2), rel=1e-3)
    likelihoods = []
    for scale in (0.97, 1.0, 1.03):
        torch.manual_seed(0)
        likelihoods.append(GaussianFixed(3, scale * variance**0.5)(out).log_prob(x).sum())
    assert likelihoods[1] > max(likelihoods[0], likelihoods[2])
    model.eval()(out + 1).log_prob(x)
    assert model.variance.item() == variance


def test_the_calibrated_scale_follows_the_errors() -> None:
    model, x = GaussianCalibrated(1), torch.zeros(1, 1, 50, 50)
    for error, steps in ((0.5, 1), (0.1, 1000)):
        for _ in range(steps):
            model(torch.full_like(x, error - 0.5)).log_prob(x)
    assert model.variance.sqrt().item() == pytest.approx(0.1, rel=0.02)
    model(torch.full_like(x, -0.5)).log_prob(x)
    assert not list(model.parameters())


def test_shared_scale_is_one_parameter_and_is_learned() -> None:
    model = GaussianShared(3, scale=0.2)
    (parameter,) = model.parameters()
    model(torch.zeros(2, 3, 4, 4)).log_prob(torch.zeros(2, 3, 4, 4)).sum().backward()
    assert parameter.shape == ()
    assert parameter.grad is not None
    assert parameter.grad > 0, "residuals of 0.5 ask for a larger scale than 0.2"


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("size", [1e2, 1e4])
def test_extreme_outputs_stay_finite(name: str, size: float) -> None:
    model = ALL[name]()
    signs = torch.randint(2, (64, model.features, 3)) * 2.0 - 1
    out = (size * signs).requires_grad_()
    observation = model(out)
    log_prob = observation.log_prob(some_data(name, 64, 2, 3))
    log_prob.sum().backward()
    assert log_prob.isfinite().all()
    assert out.grad is not None
    assert out.grad.isfinite().all()
    assert observation.mean.isfinite().all()
    assert observation.sample().isfinite().all()


@pytest.mark.parametrize("name", ALL)
def test_float32_whatever_the_autocast(name: str) -> None:
    model = ALL[name]()
    out, x = torch.randn(4, model.features, 5).bfloat16(), some_data(name, 4, 2, 5)
    reference = model(out.float())
    torch.manual_seed(1)
    expected = reference.log_prob(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        observation = model(out)
        torch.manual_seed(1)
        log_prob = observation.log_prob(x)
        mean = observation.mean
    assert log_prob.dtype == torch.float32
    torch.testing.assert_close(log_prob, expected, rtol=0, atol=0)
    torch.testing.assert_close(mean, reference.mean, rtol=0, atol=0)


def test_mu_law_round_trip_and_curve() -> None:
    codes = torch.arange(256)
    values = mu_law_decode(codes)
    assert torch.equal(mu_law_encode(values), codes)
    assert (values.diff() > 0).all()
    assert (values[0].item(), values[-1].item()) == pytest.approx((-1, 1))
    x = torch.tensor([0.02])
    assert mu_law_encode(x).item() == math.floor((math.log1p(255 * 0.02) / math.log(256) + 1) / 2 * 255 + 0.5)


@pytest.mark.parametrize("mu", [1, 15, 255])
def test_companding(mu: int) -> None:
    """The curve of G.711, odd, from -1 to 1; its slope at 0 is mu / ln(1 + mu); decoded levels are even steps of it."""
    x = torch.linspace(-1, 1, 201).double()
    found = compand(x, mu)
    expected = [math.copysign(math.log(1 + mu * abs(value)) / math.log(1 + mu), value) for value in x.tolist()]
    torch.testing.assert_close(found, torch.tensor(expected).double())
    assert (found.diff() > 0).all()
    assert compand(torch.tensor([-1.0, 0.0, 1.0]), mu).tolist() == [-1, 0, 1]
    tiny = torch.tensor([1e-9]).double()
    assert (compand(tiny, mu) / tiny).item() == pytest.approx(mu / math.log1p(mu), rel=1e-6)
    steps = compand(mu_law_decode(torch.arange(mu + 1), mu + 1), mu)
    torch.testing.assert_close(steps, torch.linspace(-1, 1, mu + 1), rtol=0, atol=1e-6)


def test_mu_law_log_prob_is_that_of_the_level() -> None:
    out, x = torch.randn(2, 256, 7), torch.rand(2, 1, 7) * 2 - 1
    expected = Categorical(1, 256)(out).log_prob(mu_law_encode(x))
    torch.testing.assert_close(MuLawCategorical(1)(out).log_prob(x), expected)


@pytest.mark.parametrize(
    ("model", "x", "message"),
    [
        (Bernoulli(1), 0.5, "data.binary"),
        (Bernoulli(1), math.nan, "data.binary"),
        (GaussianFixed(1), -1.0, "256 levels"),
        (GaussianFixed(1), math.nan, "256 levels"),
        (DiscretizedLogistic(1), 0.5, "256 levels"),
        (DiscretizedLogisticMixture(1, levels=3), 0.25, "3 levels"),
        (Categorical(1, 3), 1.0, "integers"),
        (Categorical(1, 3), 3, "`categories`"),
        (Categorical(1, 3), -1, "`categories`"),
        (MuLawCategorical(1), 1.1, "leaves"),
    ],
)
def test_foreign_data_are_refused(model: Likelihood, x: float, message: str) -> None:
    observation = model(torch.zeros(2, model.features, 3))
    with pytest.raises(ValueError, match=message):
        observation.log_prob(torch.full((2, 1, 3), x))


def test_foreign_shapes_are_refused() -> None:
    model = DiscretizedLogistic(3)
    with pytest.raises(ValueError, match="needs 6 channels"):
        model(torch.zeros(1, 3, 4, 4))
    with pytest.raises(ValueError, match=r"\[1, 1, 4, 4\]"):
        model(torch.zeros(1, 6, 4, 4)).log_prob(torch.zeros(1, 1, 4, 4))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: DiscretizedLogistic(1, levels=1), "levels"),
        (lambda: MuLawCategorical(1, levels=1), "levels"),
        (lambda: GaussianFixed(1, scale=0), "scale"),
        (lambda: GaussianShared(1, scale=1e-4), "scale"),
        (lambda: DiscretizedLogisticMixture(1, components=0), "components"),
        (lambda: Categorical(1, categories=1), "categories"),
    ],
)
def test_impossible_settings_are_refused(build: Callable[[], Likelihood], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_a_calibrated_scale_follows_the_errors_of_the_positions_that_count() -> None:
    plain, masked = GaussianCalibrated(2), GaussianCalibrated(2)
    out, x = 0.1 * torch.randn(3, 2, 5), torch.randint(256, (3, 2, 5)) / 255
    filled = torch.cat([out, torch.full_like(out, 7.0)], 2), torch.cat([x, torch.zeros_like(x)], 2)
    counted = torch.arange(10).expand(3, -1) < 5
    for _ in range(3):
        plain(out).log_prob(x)
        masked(filled[0]).log_prob(filled[1], counted)
    torch.testing.assert_close(masked.variance, plain.variance, rtol=0.02, atol=0)  # the dequantising noise differs
    before = masked.variance.clone()
    masked(filled[0]).log_prob(filled[1], torch.zeros_like(counted))
    assert torch.equal(masked.variance, before)
