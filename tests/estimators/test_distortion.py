"""A held distortion, against closed forms: the loss, Adam's steps, the rate-distortion function of Gaussians."""

from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from narrows.bottlenecks import Categorical, Gaussian, VectorQuantizer
from narrows.bottlenecks.posterior import Bottleneck
from narrows.data import Batch
from narrows.errors import NarrowsError
from narrows.estimators import (
    DAPS,
    REINFORCE,
    VIMCO,
    DistortionTarget,
    Estimator,
    Evidence,
    ImportanceWeighted,
    Pathwise,
    StraightThroughGumbel,
)
from narrows.likelihoods import GaussianFixed
from narrows.models import Autoencoder
from narrows.networks.mlp import MLPDecoder, MLPEncoder


def tiny(bottleneck: Bottleneck) -> Autoencoder:
    torch.manual_seed(0)
    encoder, decoder = partial(MLPEncoder, size=[2, 2], width=8), partial(MLPDecoder, size=[2, 2], width=8)
    return Autoencoder((1, 2, 2), encoder, bottleneck, decoder, GaussianFixed)


def images(count: int) -> Tensor:
    return torch.randint(256, (count, 1, 2, 2), generator=torch.Generator().manual_seed(0)) / 255


def test_the_loss_and_its_gradient_are_those_of_rate_and_squared_error() -> None:
    model, x = tiny(Gaussian(2)), images(6)
    estimator = DistortionTarget(0.5, Pathwise()).eval()
    estimator.multiplier.fill_(0.7)
    torch.manual_seed(1)
    _, evidence = model.evidence(Batch(x), estimator.draw)
    found = estimator(evidence)
    torch.manual_seed(1)
    draw = model.posterior(x).draw(1)
    wanted = 0.3 * draw.rate + 0.7 * (model.observe(draw.z[0]).mean - x).square().sum((1, 2, 3))
    torch.testing.assert_close(found, wanted)
    for ours, theirs in zip(
        torch.autograd.grad(found.sum(), list(model.parameters())),
        torch.autograd.grad(wanted.sum(), list(model.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_the_multiplier_takes_the_steps_of_adam_and_is_projected() -> None:
    estimator = DistortionTarget(gamma=3.0, estimator=Pathwise(), learning_rate=0.05)
    reference = nn.Parameter(torch.tensor(0.9999))
    adam = torch.optim.Adam([reference], 0.05, (0.0, 0.999), maximize=True)
    for distortion in (2.0, 1.0, 4.0, 2.5, 9.0, 9.0, 0.0, 0.0):
        estimator._ascend(torch.tensor(distortion - 3.0))
        reference.grad = torch.tensor(distortion - 3.0)
        adam.step()
        with torch.no_grad():
            reference.clamp_(1e-4, 0.9999)
        torch.testing.assert_close(estimator.multiplier, reference.detach())


def water_level(variances: list[float], distortion: float) -> float:
    """The D_i of those Gaussian pixels that a distortion leaves any bits: D_i = min(variance, level) sum to it."""
    ordered = sorted(variances)
    for dry in range(len(ordered)):
        level = (distortion - sum(ordered[:dry])) / (len(ordered) - dry)
        if level <= ordered[dry]:
            return level
    raise ValueError("more distortion than variance")


@dataclass
class Known:
    """An observation of one pixel, 0, whose mean is off by a known error."""

    error: Tensor

    @property
    def mean(self) -> Tensor:
        return self.error.sqrt().view(-1, 1, 1, 1)


@pytest.mark.parametrize("gamma", [0.5, 2.0, 10.0])
def test_the_multiplier_finds_the_exchange_rate_of_gaussian_pixels(gamma: float) -> None:
    """At (1 - l) R + l D the best D_i is (1 - l) / 2 l, or the variance: l = 1 / (1 + 2 level); batches are noisy."""
    torch.manual_seed(0)
    variances = torch.tensor([4.0, 2.0, 1.0, 0.5, 0.1]).repeat(4)
    estimator = DistortionTarget(gamma, Pathwise(), learning_rate=1e-3)
    zero, tail = torch.zeros(1, 32), []
    for step in range(4000):
        level = ((1 - estimator.multiplier) / (2 * estimator.multiplier)).item()
        errors = variances.clamp_max(level).sum() * (1 + 0.2 * torch.randn(32)).square()
        evidence = Evidence(zero, zero, zero, zero[0], torch.zeros(32, 1, 1, 1), Known(errors / 1.04))
        estimator(evidence)
        if step >= 2000:
            tail.append((errors.mean().item() / 1.04, estimator.multiplier.item()))
    distortion, multiplier = (sum(values) / len(values) for values in zip(*tail, strict=True))
    assert distortion == pytest.approx(gamma, rel=0.02)
    assert multiplier == pytest.approx(1 / (1 + 2 * water_level(variances.tolist(), gamma)), abs=0.01)


PAIRS = [
    (Gaussian(2), Pathwise()),
    (VectorQuantizer(2, 4), Pathwise()),
    (Categorical(2, 4, 2), StraightThroughGumbel()),
    (Categorical(2, 4, 2), REINFORCE(samples=4)),
]


@pytest.mark.parametrize(("bottleneck", "inner"), PAIRS)
def test_every_bottleneck_and_estimator_can_be_held_to_a_distortion(bottleneck: Bottleneck, inner: Estimator) -> None:
    model, x = tiny(bottleneck), images(16)
    estimator = DistortionTarget(1e-3, inner)
    _, evidence = model.evidence(Batch(x), estimator.draw)
    estimator(evidence).mean().backward()
    assert {"multiplier", "squared_error", "rate"} <= estimator.figures.keys()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.encoder.parameters())


def test_the_multiplier_stays_in_evaluation_and_is_part_of_the_state() -> None:
    model, x = tiny(Gaussian(2)), images(16)
    estimator = DistortionTarget(100.0, Pathwise()).eval()
    _, evidence = model.evidence(Batch(x), estimator.draw)
    estimator(evidence)
    assert estimator.multiplier == torch.tensor(0.9999)
    estimator.train()(evidence)
    assert estimator.multiplier < 0.9999
    assert {"multiplier", "square", "steps"} <= estimator.state_dict().keys()


@pytest.mark.parametrize("setting", ["gamma", "learning_rate", "patience"])
def test_what_is_not_above_zero_is_refused(setting: str) -> None:
    with pytest.raises(NarrowsError, match=f"{setting} is 0"):
        DistortionTarget(**{"gamma": 1.0, "estimator": Pathwise(), setting: 0})


@pytest.mark.parametrize(
    ("level", "noise", "warned"),
    [(0.95, 0.15, False), (1.2, 0.15, True), (1.5, 0.15, True), (0.0, 0.15, False)],
    ids=["reached", "above", "far above", "reached by any"],
)
def test_a_gamma_out_of_reach_is_warned_of_through_the_noise_of_batches(
    level: float, noise: float, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """D falls to `level` where l allows it, and rises with 1 - l."""
    torch.manual_seed(0)
    estimator = DistortionTarget(1.0, Pathwise(), learning_rate=1e-2, patience=500)
    zero = torch.zeros(1, 2)
    for _ in range(2000):
        error = (level + 2 * (1 - estimator.multiplier)) * (1 + noise * torch.randn(()))
        estimator(Evidence(zero, zero, zero, zero[0], torch.zeros(2, 1, 1, 1), Known(error.clamp_min(0).expand(2))))
    assert bool(caplog.records) == warned
    if warned:
        message = caplog.records[-1].message
        assert message.startswith("gamma 1 is out of reach")
        assert "raise estimator.gamma" in message
        assert float(message.partition("squared error is ")[2].partition(";")[0]) == pytest.approx(level, rel=0.05)


def test_a_gamma_above_what_the_model_can_lose_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    estimator = DistortionTarget(1.0, Pathwise(), learning_rate=1e-2, patience=200)
    zero = torch.zeros(1, 2)
    for _ in range(600):
        estimator(Evidence(zero, zero, zero, zero[0], torch.zeros(2, 1, 1, 1), Known(torch.full((2,), 0.8))))
    assert "lower estimator.gamma" in caplog.records[-1].message


def test_a_batch_that_is_not_finite_moves_nothing() -> None:
    estimator = DistortionTarget(1.0, Pathwise())
    zero = torch.zeros(1, 2)
    states = []
    for error in (3.0, float("inf"), float("nan")):
        estimator(Evidence(zero, zero, zero, zero[0], torch.zeros(2, 1, 1, 1), Known(torch.full((2,), error))))
        states.append({name: value.clone() for name, value in estimator.state_dict().items()})
    for state in states[1:]:
        torch.testing.assert_close(state, states[0], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        (ImportanceWeighted(), "cannot hold a mean distortion"),
        (VIMCO(), "cannot hold a mean distortion"),
        (DAPS(), r"DAPS.beta is 0.01.*--estimator.estimator.beta=1"),
        (Pathwise(beta=2.0), r"Pathwise.beta is 2.0"),
    ],
)
def test_estimators_of_another_objective_are_refused(inner: Estimator, message: str) -> None:
    with pytest.raises(NarrowsError, match=message):
        DistortionTarget(1.0, inner)
