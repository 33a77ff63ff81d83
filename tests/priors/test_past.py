"""Continuing given codes: the state after a past, and sampling from it."""

from collections.abc import Callable

import pytest
import torch

from narrows.errors import NarrowsError
from narrows.priors import Prior, sample
from narrows.sampling import Sampling
from tests.priors.helpers import codes_of, condition_of, stepped

Make = Callable[..., Prior]
CONDITIONED = pytest.mark.parametrize(("classes", "channels"), [(0, 0), (3, 0), (0, 2), (3, 2)])


@CONDITIONED
@pytest.mark.parametrize("codebooks", [1, 3])
def test_steps_after_any_past_give_the_logits_of_the_parallel_pass(
    make: Make, codebooks: int, classes: int, channels: int
) -> None:
    prior = make(6, codebooks, classes, channels=channels)
    codes, condition = codes_of(prior, 3), condition_of(prior, 3)
    expected = prior.logits(codes, condition).detach().view(3, prior.length, -1)
    for n in range(prior.length):
        past = codes.flatten(1)[:, :n]
        logits = stepped(prior, codes, condition, past)
        assert not logits.requires_grad
        torch.testing.assert_close(logits, expected[:, n:], rtol=0, atol=1e-12)


@CONDITIONED
@pytest.mark.parametrize("codebooks", [1, 3])
def test_a_continuation_of_an_examples_own_first_codes_is_the_example(
    make: Make, codebooks: int, classes: int, channels: int
) -> None:
    prior = make(6, codebooks, classes, channels=channels).float()
    condition, sampling = condition_of(prior, 3), Sampling(5.0, 4, 0.95, seed=5)
    codes = sample(prior, 3, condition, sampling)
    assert len(codes.unique()) > 1
    for n in range(prior.length + 1):
        assert torch.equal(sample(prior, 3, condition, sampling, codes.flatten(1)[:, :n]), codes)


def test_the_past_is_kept_and_matters(make: Make) -> None:
    prior = make(codebooks=2, codebook_size=50).float()
    drawn = []
    for code in range(50):
        past = torch.full((2, 3), code)
        codes = sample(prior, 2, sampling=Sampling(seed=0), past=past).flatten(1)
        assert torch.equal(codes[:, :3], past)
        drawn.append(codes[:, 3:])
    assert len(torch.stack(drawn).unique(dim=0)) > 1


def test_progress_counts_the_past_as_done(make: Make) -> None:
    calls: list[tuple[int, int]] = []
    sample(make(), 1, past=torch.zeros(1, 4).long(), progress=lambda done, total: calls.append((done, total)))
    assert calls == [(5, 6), (6, 6)]


def test_the_buffer_of_the_past_may_be_reused(make: Make) -> None:
    prior = make()
    codes = codes_of(prior, 2)
    past = codes.flatten(1)[:, :3].clone()
    state = prior.begin(2, past=past)
    past.zero_()
    expected = prior.logits(codes).detach().view(2, prior.length, -1)[:, 3]
    torch.testing.assert_close(prior.step(state, None), expected)


def test_steps_after_a_past_out_of_turn_are_refused(make: Make) -> None:
    prior = make()
    state = prior.begin(1, past=torch.zeros(1, 5).long())
    with pytest.raises(NarrowsError, match="None at the first"):
        prior.step(state, torch.tensor([0]))
    prior.step(state, None)
    for complete in (state, prior.begin(1, past=torch.zeros(1, 6).long())):
        with pytest.raises(NarrowsError, match="all 6 codes"):
            prior.step(complete, None)


def test_a_past_that_does_not_fit_is_refused(make: Make) -> None:
    prior = make(codebooks=2)
    for shape in ((1, 3), (2, 13), (2,), (2, *prior.code_shape)):
        with pytest.raises(NarrowsError, match=r"past must hold the first n codes of each example, \[2, n\] with n up"):
            prior.begin(2, past=torch.zeros(shape).long())
        with pytest.raises(NarrowsError, match="past must hold"):
            sample(prior, 2, past=torch.zeros(shape).long())
    with pytest.raises(NarrowsError, match="past must be integers from 0 to 4"):
        prior.begin(2, past=torch.full((2, 1), 5))
    with pytest.raises(NarrowsError, match="past must be integers from 0 to 4"):
        prior.begin(2, past=torch.zeros(2, 1))
