from typing import Any

import pytest
import torch

from narrows.errors import NarrowsError
from narrows.priors import CodeSpec, TransformerPrior, sample
from narrows.sampling import Sampling
from tests.priors.helpers import feature_influence

K = 5


def build(
    grid: tuple[int, ...] = (2, 3), codebooks: int = 1, classes: int = 0, channels: int = 0, **settings: Any
) -> TransformerPrior:
    torch.manual_seed(0)
    settings = {"width": 8, "layers": 1, "heads": 2, "memory": 2, **settings}
    return TransformerPrior(CodeSpec(grid, codebooks, K, classes, channels), **settings).double()


@pytest.mark.parametrize("grid", [(), (6,), (2, 3), (2, 2, 2)])
@pytest.mark.parametrize("codebooks", [1, 3])
def test_logits_depend_on_all_earlier_codes_and_on_nothing_else(grid: tuple[int, ...], codebooks: int) -> None:
    prior = build(grid, codebooks)
    codes = torch.randint(K, (prior.length,)).repeat(prior.length + 1, 1)
    n = torch.arange(prior.length)
    codes[n, n] = (codes[n, n] + 1) % K  # example n has another code n; the last example is unchanged
    with torch.no_grad():
        logits = prior.logits(codes.view(-1, *prior.code_shape)).view(-1, prior.length, K)
    influence = (logits[:-1] - logits[-1]).abs().amax(-1) > 1e-12
    assert torch.equal(influence, n > n[:, None])


@pytest.mark.parametrize("grid", [(), (6,), (2, 3), (2, 2, 2)])
@pytest.mark.parametrize("codebooks", [1, 3])
def test_logits_depend_on_the_features_of_all_positions_so_far(grid: tuple[int, ...], codebooks: int) -> None:
    prior = build(grid, codebooks, channels=2)
    n = torch.arange(prior.length // codebooks)
    expected = (n >= n[:, None]).unsqueeze(2).expand(-1, -1, codebooks)
    assert torch.equal(feature_influence(prior), expected)


def test_the_past_is_read_in_one_pass() -> None:
    prior, calls = build((2, 2, 2), 2), []
    prior.network.transformer.register_forward_hook(lambda module, args, output: calls.append(output.shape[2]))
    state = prior.begin(1, past=torch.zeros(1, 11).long())
    prior.step(state, None)
    assert calls == [11, 1]


def test_positions_are_told_apart() -> None:
    """Alike codes and no label, yet logits of their own at each place."""
    logits = build((2, 2, 2), 2).logits(torch.zeros(1, 2, 2, 2, 2).long()).view(16, K)
    assert torch.pdist(logits).min() > 1e-6


def test_an_example_reads_the_vectors_of_its_own_class() -> None:
    prior = build(classes=3, memory=4)
    prior.log_prob(torch.zeros(2, 2, 3).long(), torch.tensor([2, 2])).sum().backward()
    assert prior.condition.grad is not None
    assert prior.condition.grad.abs().amax((1, 2)).ne(0).tolist() == [False, False, True]
    assert prior.condition.grad[2].any(0).all()


def test_steps_ignore_dropout() -> None:
    prior = build(dropout=0.5)
    codes = torch.zeros(2, 2, 3).long()
    in_training = [sample(prior.train(), 2, sampling=Sampling(seed=1)) for _ in range(2)]
    expected = sample(prior.eval(), 2, sampling=Sampling(seed=1))
    assert all(torch.equal(drawn, expected) for drawn in in_training)
    torch.testing.assert_close(prior.logits(codes), build().logits(codes))
    assert not torch.allclose(prior.train().logits(codes), prior.eval().logits(codes))


def test_bad_settings_are_refused() -> None:
    for setting in ("layers", "memory"):
        with pytest.raises(NarrowsError, match=f"{setting} must be at least 1, not 0"):
            build(**{setting: 0})
    with pytest.raises(NarrowsError, match="heads must divide width"):
        build(heads=3)
    for dropout in (-0.1, 1.0, float("nan")):
        with pytest.raises(NarrowsError, match="dropout must be at least 0 and below 1"):
            build(dropout=dropout)
