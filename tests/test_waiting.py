"""No training step asks a device for a number. The CPU plays the device: whatever reads its values fails."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from narrows import waiting
from narrows.bottlenecks import (
    FSQ,
    Autoregressive,
    Bottleneck,
    Categorical,
    CosineCodebook,
    FactorizedQuantizer,
    Gaussian,
    Hierarchy,
    KMeansStart,
    LearntCodebook,
    ResidualQuantizer,
    RestartUnused,
    VectorQuantizer,
)
from narrows.errors import NarrowsError
from narrows.estimators import (
    DAPS,
    REINFORCE,
    VIMCO,
    DistortionTarget,
    Estimator,
    Evidence,
    GumbelRao,
    GumbelSoftmax,
    ImportanceWeighted,
    LearnedBaseline,
    LeaveOneOut,
    MovingAverage,
    Pathwise,
    StraightThroughGumbel,
)
from narrows.likelihoods import (
    Bernoulli,
    DiscretizedLogistic,
    DiscretizedLogisticMixture,
    GaussianCalibrated,
    GaussianFixed,
    GaussianPerDimension,
    GaussianShared,
    Likelihood,
    MuLawCategorical,
)
from narrows.likelihoods import Categorical as Categories
from narrows.waiting import LateReader

aten = torch.ops.aten
WAITING = {
    aten._local_scalar_dense,
    aten.item,
    aten.is_nonzero,
    aten.equal,
    aten.nonzero,
    aten.masked_select,
    aten._unique2,
    aten.unique_dim,
    aten.lift_fresh,  # torch.tensor() of Python numbers, which are copied to the device
}


class NoQuestions(TorchDispatchMode):
    """Fails where the host would wait for a device, or copies numbers to it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        waits = func.overloadpacket in WAITING or func is aten.repeat_interleave.Tensor
        if func.overloadpacket in (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_):
            waits = any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])
        if waits:
            raise AssertionError(f"{func} waits for the device")
        return func(*args, **(kwargs or {}))


class Recorded:
    """An event of a device whose work is always done."""

    def __init__(self, device: torch.device) -> None:
        self.recorded = False

    def record(self) -> None:
        self.recorded = True

    def synchronize(self) -> None:
        assert self.recorded


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Callable[[], TorchDispatchMode]:
    """The CPU counts as a device from now on."""
    monkeypatch.setattr(waiting, "HOST", "another")
    monkeypatch.setattr(torch, "Event", Recorded)
    return NoQuestions


@pytest.mark.parametrize(
    "question",
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).all()),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x.new_tensor(3.0),
        lambda x: x.index_put_((x > 0,), x.sum()),
        lambda x: torch.equal(x, x),
    ],
)
def test_questions_are_noticed(question: Callable[[Tensor], object]) -> None:
    x = torch.randn(5)
    with NoQuestions(), pytest.raises(AssertionError, match="waits for the device"):
        question(x)


CARE = (KMeansStart(2), RestartUnused(1))
BOTTLENECKS: dict[str, Callable[[], Bottleneck]] = {
    "ema": lambda: VectorQuantizer(2, 8, codebooks=2, care=CARE),
    "learnt": lambda: VectorQuantizer(4, 8, codebook=LearntCodebook, care=CARE),
    "cosine": lambda: VectorQuantizer(4, 8, codebook=CosineCodebook, care=CARE),
    "more codes than tokens": lambda: VectorQuantizer(4, 60, care=CARE),
    "residual": lambda: ResidualQuantizer(partial(VectorQuantizer, 4, 8, care=CARE), depth=2),
    "factorised": lambda: FactorizedQuantizer.of(4, dim=2, codebook_size=8, care=CARE),
    "scalar": lambda: FSQ([5, 4], codebooks=2),
    "categorical": lambda: Categorical(dim=3, codebook_size=2, codebooks=2),
    "autoregressive": lambda: Autoregressive(dim=2, codebook_size=3, width=4, layers=1, heads=2),
    "gaussian": lambda: Gaussian(2),
}


def train(bottleneck: Bottleneck, features: Tensor, mask: Tensor | None) -> None:
    posterior = bottleneck(features.requires_grad_(), mask)
    draw = posterior.draw(2)
    (draw.z.square().sum() + draw.rate.sum() + draw.log_q.sum() + sum(posterior.losses.values())).backward()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", BOTTLENECKS)
def test_no_bottleneck_asks(name: str, masked: bool, device: Callable[[], TorchDispatchMode]) -> None:
    """Once k-means has started the codebook, of whose first batches it has to know the number."""
    bottleneck, mask = BOTTLENECKS[name](), torch.rand(4, 5) < 0.7 if masked else None
    for _ in range(3):
        train(bottleneck, torch.randn(4, 4, 5), mask)
    features = torch.randn(4, 4, 5)
    with device():
        train(bottleneck, features, mask)


def test_no_hierarchy_asks(device: Callable[[], TorchDispatchMode]) -> None:
    hierarchy, features = Hierarchy(width=4, latents=1, middle=2, layers={1: 1, 2: 2}), torch.randn(3, 4, 2, 2)
    with device():
        train(hierarchy, features, None)


@pytest.mark.parametrize("name", ["ema", "learnt", "cosine", "more codes than tokens", "residual"])
def test_codes_are_placed_alike_with_and_without_a_look(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU a batch in which no code has to move costs nothing."""
    looking, blind = BOTTLENECKS[name](), BOTTLENECKS[name]()
    blind.load_state_dict(looking.state_dict())
    for step in range(8):
        features = torch.randn(4, 4, 5) * (1 + step)
        with monkeypatch.context() as patch:
            looking(features)
            patch.setattr(waiting, "HOST", "another")
            blind(features)
    for key, value in looking.state_dict().items():
        assert torch.equal(value, blind.state_dict()[key]), key


@pytest.mark.parametrize("name", ["ema", "learnt", "residual"])
def test_passes_that_are_run_again_find_their_points_without_asking(
    name: str, device: Callable[[], TorchDispatchMode]
) -> None:
    """With the same tokens twice, which two passes quantised with other points."""
    plain, checkpointed = BOTTLENECKS[name](), BOTTLENECKS[name]()
    checkpointed.load_state_dict(plain.state_dict())
    for step in range(5):
        x = torch.randn(4, 4, 5).requires_grad_()
        slopes = []
        for quantizer, run in ((plain, None), (checkpointed, partial(checkpoint, use_reentrant=False))):

            def loss(x: Tensor, quantizer: Bottleneck = quantizer) -> Tensor:
                posterior = quantizer(x.tanh())
                return sum(posterior.losses.values()) + posterior.mode.square().sum()

            with device() if step > 2 else nullcontext():
                values = [loss(given) if run is None else run(loss, given) for given in (x, x + 1, x)]
                slopes.append([torch.autograd.grad(values[index], x)[0] for index in (1, 2, 0)])
        for found, expected in zip(*slopes, strict=True):
            assert torch.equal(found, expected)


LIKELIHOODS: dict[str, tuple[Callable[[], Likelihood], Callable[[Tensor], Tensor], Tensor]] = {
    "bernoulli": (lambda: Bernoulli(2), lambda x: (x > 0.5).float(), torch.tensor(0.5)),
    "categorical": (lambda: Categories(2, 4), lambda x: (4 * x).long(), torch.tensor(4)),
    "mu-law": (lambda: MuLawCategorical(2, 8), lambda x: 2 * x - 1, torch.tensor(1.5)),
    **{
        kind.__name__: (partial(kind, 2, levels=4), lambda x: (3 * x).round() / 3, torch.tensor(0.4))
        for kind in (
            DiscretizedLogistic,
            DiscretizedLogisticMixture,
            GaussianFixed,
            GaussianCalibrated,
            GaussianShared,
            GaussianPerDimension,
        )
    },
}


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_no_likelihood_asks(name: str, device: Callable[[], TorchDispatchMode]) -> None:
    build, quantise, _ = LIKELIHOODS[name]
    model, counted = build(), torch.rand(3, 5) < 0.7
    x, out = quantise(torch.rand(3, 2, 5)), torch.randn(3, model.features, 5, requires_grad=True)
    with device():
        observation = model(out)
        (observation.log_prob(x).sum() + observation.log_prob(x, counted).sum()).backward()


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_data_are_checked_when_asked_and_on_a_cpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    build, quantise, wrong = LIKELIHOODS[name]
    model, x = build(), quantise(torch.rand(3, 2, 5))
    model.check(x)
    observation = model(torch.randn(3, model.features, 5))
    observation.log_prob(x)
    x[1, 0, 2] = wrong
    for look in (model.check, observation.log_prob):
        with pytest.raises(NarrowsError):
            look(x)
    monkeypatch.setattr(waiting, "HOST", "another")
    with pytest.raises(NarrowsError):
        model.check(x)


ESTIMATORS: dict[str, tuple[Callable[[], Estimator], Callable[[], Bottleneck]]] = {
    "pathwise": (Pathwise, lambda: Gaussian(2)),
    "importance weighted": (partial(ImportanceWeighted, 4), lambda: Gaussian(2)),
    "held distortion": (lambda: DistortionTarget(1.0, Pathwise()), lambda: Gaussian(2)),
    **{
        name: (build, lambda: Categorical(dim=2, codebook_size=4))
        for name, build in {
            "relaxed": GumbelSoftmax,
            "straight-through": StraightThroughGumbel,
            "rao-blackwell": GumbelRao,
            "moving average": partial(REINFORCE, MovingAverage),
            "leave one out": partial(REINFORCE, LeaveOneOut),
            "learned": partial(REINFORCE, partial(LearnedBaseline, 10)),
            "vimco": partial(VIMCO, 4),
            "daps": DAPS,
        }.items()
    },
}


class Mean:
    """What a held distortion reads of an observation."""

    def __init__(self, mean: Tensor) -> None:
        self.mean = mean


@pytest.mark.parametrize("name", ESTIMATORS)
def test_no_estimator_asks(name: str, device: Callable[[], TorchDispatchMode]) -> None:
    build, made = ESTIMATORS[name]
    estimator, bottleneck = build(), made()
    features, x = torch.randn(3, 4, 5, requires_grad=True), torch.randn(3, 2, 5)
    with device():
        draw = estimator.draw(bottleneck(features))
        means = draw.z
        log_likelihood = -(means - x).square().sum((2, 3))
        observation: Any = Mean(means.flatten(0, 1))
        evidence = Evidence(log_likelihood, draw.log_q, draw.log_p, draw.rate, x, observation)
        estimator(evidence).sum().backward()


def test_a_late_reader_is_one_call_behind_a_device(device: Callable[[], TorchDispatchMode]) -> None:
    read, values = LateReader(), torch.tensor([1.0, 2.0])
    assert read(values) is None
    values += 1
    assert read(values) == [1.0, 2.0]
    assert read(values) == [2.0, 3.0]
    assert copy.deepcopy(read)(values) is None
    assert pickle.loads(pickle.dumps(read))(values) is None


def test_a_late_reader_reads_a_cpu_at_once() -> None:
    assert LateReader()(torch.tensor([1.0, 2.0])) == [1.0, 2.0]
