"""The quantiser in other people's modules: bad features, activation checkpointing, wrappers, saved states."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.utils import _apply_to_tensors
from torch.nn.parallel.scatter_gather import _is_namedtuple
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten
from torch.utils.checkpoint import checkpoint

from narrows.bottlenecks import (
    FSQ,
    CodePosterior,
    CosineCodebook,
    EMACodebook,
    FactorizedQuantizer,
    KMeansStart,
    LearntCodebook,
    ResidualQuantizer,
    RestartUnused,
    VectorQuantizer,
)
from narrows.errors import NarrowsError

QUANTISERS: dict[str, Callable[[], nn.Module]] = {
    "ema": lambda: VectorQuantizer(dim=4, codebook_size=16, care=()),
    "learnt": lambda: VectorQuantizer(dim=4, codebook_size=16, codebook=LearntCodebook, care=()),
    "cosine": lambda: VectorQuantizer(dim=4, codebook_size=16, codebook=CosineCodebook, care=()),
    "two codebooks": lambda: VectorQuantizer(dim=2, codebook_size=16, codebooks=2, care=()),
    "cared for": lambda: VectorQuantizer(dim=4, codebook_size=16, care=(KMeansStart(3), RestartUnused(2))),
    "residual": lambda: ResidualQuantizer(partial(VectorQuantizer, dim=4, codebook_size=16), depth=2),
    "factorised": lambda: FactorizedQuantizer(4, VectorQuantizer(dim=2, codebook_size=16)),
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def train(quantiser: nn.Module, batches: list[Tensor]) -> CodePosterior:
    """Train on the batches as anyone would, and return what the last gave."""
    optimiser = torch.optim.Adam(quantiser.parameters()) if any(True for _ in quantiser.parameters()) else None
    for features in batches:
        posterior = quantiser(features.clone().requires_grad_())
        posterior.loss.backward()
        if optimiser is not None:
            optimiser.step()
            optimiser.zero_grad()
    return posterior


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", [name for name in QUANTISERS if name != "factorised"])
@pytest.mark.parametrize("when", [0, 2])
def test_a_vector_that_is_not_finite_teaches_a_codebook_nothing(name: str, when: int, bad: float) -> None:
    quantiser = QUANTISERS[name]()
    batches = [torch.randn(40, 4) for _ in range(30)]
    spoilt = batches[when].clone()
    spoilt[7, 1] = bad
    train(quantiser, [*batches[:when], spoilt])
    last = train(quantiser, batches[when + 1 :])
    assert all(value.isfinite().all() for value in quantiser.state_dict().values())
    assert last.loss.isfinite()
    assert last.z.isfinite().all()
    assert len(last.codes.unique()) > 4
    assert last.statistics["nonfinite"] == 0


@pytest.mark.parametrize("name", ["ema", "learnt", "cosine"])
def test_what_is_learned_is_what_the_finite_vectors_teach(name: str) -> None:
    whole, without = QUANTISERS[name](), QUANTISERS[name]()
    without.load_state_dict(whole.state_dict())
    features = torch.randn(50, 4)
    spoilt = torch.cat([features[:20], torch.full((3, 4), torch.nan), features[20:]])
    for quantiser, batch in ((whole, spoilt), (without, features)):
        quantiser(batch)
    for key, value in whole.state_dict().items():
        torch.testing.assert_close(value, without.state_dict()[key])
    figures = [quantiser.eval()(batch).statistics for quantiser, batch in ((whole, spoilt), (without, features))]
    torch.testing.assert_close(figures[0]["perplexity"], figures[1]["perplexity"])
    assert [part["nonfinite"] for part in figures] == [3, 0]


class Net(nn.Module):
    """A layer, the quantiser and a layer, of which the middle may be checkpointed."""

    def __init__(self, quantiser: nn.Module, run: Callable[..., Any]) -> None:
        super().__init__()
        self.first, self.quantiser, self.last = nn.Linear(3, 4), quantiser, nn.Linear(4, 2)
        self.run = run
        self.codes: list[Tensor] = []

    def middle(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, codes, loss = self.quantiser(self.first(x))
        self.codes.append(codes.clone())
        return self.last(z), loss

    def forward(self, x: Tensor) -> Tensor:
        y, loss = self.run(self.middle, x)
        return y.square().mean() + loss


RUNS: dict[str, Callable[..., Any]] = {
    "not reentrant": partial(checkpoint, use_reentrant=False),
    "reentrant": partial(checkpoint, use_reentrant=True),
}


def plainly(function: Callable[[Tensor], Any], x: Tensor) -> Any:
    return function(x)


def nets(name: str, run: str) -> tuple[Net, Net]:
    plain = Net(QUANTISERS[name](), plainly)
    checkpointed = Net(QUANTISERS[name](), RUNS[run])
    checkpointed.load_state_dict(plain.state_dict())
    return plain, checkpointed


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("name", QUANTISERS)
@pytest.mark.parametrize("pattern", ["step by step", "accumulated", "two forwards", "two forwards, first in first out"])
def test_checkpointed_training_is_training(name: str, run: str, pattern: str) -> None:
    plain, checkpointed = nets(name, run)
    batches = [torch.randn(64, 3) for _ in range(12)]
    for net in (plain, checkpointed):
        optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
        for step in range(0, 12, 2):
            optimiser.zero_grad()
            # The reentrant kind needs an input that wants a gradient.
            pair = [batch.clone().requires_grad_() for batch in batches[step : step + 2]]
            if pattern == "step by step":
                for x in pair:
                    net(x).backward()
                    optimiser.step()
                    optimiser.zero_grad()
            elif pattern == "accumulated":
                for x in pair:
                    net(x).backward()
            elif pattern == "two forwards":
                (net(pair[0]) + net(pair[1])).backward()
            else:
                losses = [net(x) for x in pair]
                with torch.inference_mode():
                    net.eval()(batches[0])
                net.train()
                for loss in losses:
                    loss.backward()
            optimiser.step()
    for key, value in checkpointed.state_dict().items():
        torch.testing.assert_close(value, plain.state_dict()[key], msg=f"{key} differs")
    for stage in checkpointed.modules():
        if isinstance(stage, EMACodebook):
            assert stage.steps == 12


def test_the_recomputation_has_the_codes_of_the_forward_pass() -> None:
    _, net = nets("ema", "not reentrant")
    x = torch.randn(256, 3)
    for _ in range(5):
        net.codes.clear()
        (net(x) + net(x + 1)).backward()
        first, second, *again = net.codes
        assert len(again) == 2
        assert any(torch.equal(first, codes) for codes in again)
        assert any(torch.equal(second, codes) for codes in again)


@pytest.mark.parametrize("name", QUANTISERS)
def test_what_is_returned_is_a_tuple_and_a_pytree(name: str) -> None:
    posterior = QUANTISERS[name]()(torch.randn(6, 4, 3))
    z, codes, loss = posterior
    assert len(posterior) == 3
    assert posterior[0] is z
    assert posterior[1] is codes
    assert posterior[-1] is loss
    leaves, structure = tree_flatten(posterior)
    assert all(isinstance(leaf, Tensor) for leaf in leaves)
    again = tree_unflatten(leaves, structure)
    assert isinstance(again, CodePosterior)
    assert torch.equal(again.rate, posterior.rate)
    assert again.losses.keys() == posterior.losses.keys()
    doubled = tree_map(lambda leaf: 2 * leaf, posterior)
    torch.testing.assert_close(doubled.z, 2 * z)
    torch.testing.assert_close(doubled.losses["commitment"], 2 * posterior.losses["commitment"])


def test_wrappers_that_rebuild_named_tuples_see_the_tensors() -> None:
    """What FSDP does to outputs, and how DataParallel tells and gathers named tuples."""
    posterior = VectorQuantizer(dim=4, codebook_size=16)(torch.randn(6, 4, requires_grad=True))
    seen: list[Tensor] = []
    again = _apply_to_tensors(lambda tensor: (seen.append(tensor), tensor)[1], posterior)
    assert {id(tensor) for tensor in seen} == {id(part) for part in posterior}
    assert torch.equal(sum(again.losses.values()), posterior.loss)
    assert _is_namedtuple(posterior)
    gathered = type(posterior)._make(torch.cat([part.view(-1)] * 2) for part in posterior)
    assert [len(part) for part in gathered] == [48, 12, 2]


@pytest.mark.parametrize("name", ["ema", "learnt", "residual", "factorised"])
def test_a_frozen_codebook_stays_frozen_when_it_is_saved_copied_or_pickled(name: str) -> None:
    frozen = QUANTISERS[name]()
    frozen.freeze()  # type: ignore[operator]
    fresh = QUANTISERS[name]()
    fresh.load_state_dict(frozen.state_dict())
    for quantiser in (fresh, copy.deepcopy(frozen), pickle.loads(pickle.dumps(frozen))):
        books = {key: value.clone() for key, value in quantiser.state_dict().items() if "codebook" in key}
        train(quantiser, [torch.randn(40, 4)] * 3)
        for key, value in books.items():
            assert torch.equal(quantiser.state_dict()[key], value), key


def test_a_state_saved_before_freezing_was_part_of_it_is_loaded() -> None:
    quantiser = QUANTISERS["residual"]()
    state = {key: value for key, value in quantiser.state_dict().items() if "extra_state" not in key}
    QUANTISERS["residual"]().load_state_dict(state)
    unfrozen = QUANTISERS["ema"]()
    unfrozen.freeze()  # type: ignore[operator]
    unfrozen.load_state_dict(QUANTISERS["ema"]().state_dict())
    assert unfrozen.frozen  # whoever froze it before loading wants it so


def reference(features: Tensor, points: Tensor, commitment: float) -> tuple[Tensor, Tensor]:
    """The latents and the commitment loss in plain operations."""
    codes = torch.cdist(features.detach(), points).argmin(1)
    found = points[codes]
    return features + (found - features).detach(), commitment * (features - found).square().sum(1).mean()


def test_a_gradient_penalty_is_that_of_plain_operations() -> None:
    quantiser = VectorQuantizer(dim=4, codebook_size=16, care=()).eval()
    quantiser.codebook.vectors.normal_()
    weights, head = torch.randn(3, 4), torch.randn(4)
    gradients = []
    for plain in (True, False):
        x = torch.randn(20, 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
        scale = torch.tensor(1.3, requires_grad=True)
        features = (x @ weights).tanh() * scale
        if plain:
            z, loss = reference(features, quantiser.codebook.points[0], quantiser.commitment)
        else:
            z, _, loss = quantiser(features)
        objective = (z @ head).square().mean() + 3 * loss
        (slope,) = torch.autograd.grad(objective, x, create_graph=True)
        penalty = (slope.square().sum(1).sqrt() - 1).square().mean()
        gradients.append(torch.autograd.grad(penalty, (x, scale)))
    for found, expected in zip(gradients[1], gradients[0], strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("used", ["z", "loss"])
def test_either_result_alone_has_its_gradient(used: str) -> None:
    quantiser = VectorQuantizer(dim=4, codebook_size=16, care=()).eval()
    features = torch.randn(20, 4, requires_grad=True)
    z, _, loss = quantiser(features)
    if used == "z":
        z.sum().backward()
        assert torch.equal(features.grad, torch.ones(20, 4))
    else:
        loss.backward()
        torch.testing.assert_close(features.grad, 2 * 0.25 / 20 * (features - z).detach())


def test_fsq_has_no_poison_to_take() -> None:
    quantiser = FSQ([8, 5, 5, 5])
    spoilt = torch.randn(40, 4)
    spoilt[3] = torch.nan
    quantiser(spoilt)
    assert quantiser(torch.randn(40, 4)).z.isfinite().all()


def used_after_training(quantiser: nn.Module, features: int, channels: int, steps: int = 50) -> int:
    """How many codes of a batch a toy autoencoder of noise uses after some steps, as in anyone's first try."""
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, features))
    decoder = nn.Sequential(nn.Linear(channels, 64), nn.ReLU(), nn.Linear(64, 32))
    optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters(), *quantiser.parameters()], 1e-3)
    for _ in range(steps):
        x = torch.randn(1024, 32)
        z, codes, loss = quantiser(encoder(x))
        (loss + (decoder(z) - x).square().mean()).backward()
        optimiser.step()
        optimiser.zero_grad()
    return len(codes[..., 0].unique() if codes.ndim > 1 else codes.unique())


@pytest.mark.parametrize(
    "build",
    [VectorQuantizer, partial(ResidualQuantizer.of, depth=2), partial(FactorizedQuantizer.of, 16)],
    ids=["vector", "residual", "factorised"],
)
def test_one_line_keeps_its_codes_in_use(build: Callable[..., nn.Module]) -> None:
    careless = used_after_training(build(dim=16, codebook_size=64, care=[]), 16, 16)
    careful = used_after_training(build(dim=16, codebook_size=64), 16, 16)
    assert careful > 64 * 2 / 3
    assert careful > careless


def test_every_quantiser_has_one_line() -> None:
    features = torch.randn(3, 16, 5, 4)
    for quantiser in (
        VectorQuantizer(dim=16, codebook_size=8),
        ResidualQuantizer.of(dim=16, codebook_size=8, depth=3),
        FactorizedQuantizer.of(features=16, dim=2, codebook_size=8),
        FactorizedQuantizer(16, FSQ([8, 5])),
    ):
        quantized, codes, loss = quantiser(features)
        assert quantized.shape == features.shape
        assert codes.shape[:3] == (3, 5, 4)
        assert loss.ndim == 0
    quantized, codes, _ = FSQ([4] * 16)(features)
    assert (quantized.shape, codes.shape) == (features.shape, (3, 5, 4))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", ["ema", "cared for", "residual"])
def test_a_converted_codebook_refuses_to_learn_in_words(name: str, dtype: torch.dtype) -> None:
    with pytest.raises(NarrowsError, match=r"cannot learn in .*: keep it in float32"):
        QUANTISERS[name]().to(dtype)(torch.randn(5, 4, dtype=dtype))


@pytest.mark.parametrize("name", QUANTISERS)
def test_features_of_any_precision_are_read_and_no_integers(name: str) -> None:
    quantiser = QUANTISERS[name]().eval()
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        assert quantiser(torch.randn(5, 4, 3).to(dtype)).z.dtype == dtype
    with pytest.raises(NarrowsError, match=r"features must be floating point, not torch\.int64"):
        quantiser(torch.zeros(5, 4, 3, dtype=torch.long))
    with pytest.raises(NarrowsError, match="features must be"):
        quantiser(torch.randn(5, 7, 3))
    for codes in (torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.bool)):
        with pytest.raises(NarrowsError, match="codes must be integers"):
            quantiser.embed(codes)  # type: ignore[operator]
