"""What every prior promises."""

import itertools
from collections.abc import Callable

import pytest
import torch

from narrows.priors import Prior
from tests.priors.helpers import codes_of, stepped

Make = Callable[..., Prior]


@pytest.mark.parametrize("codebooks", [1, 3])
@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_steps_give_the_logits_of_the_parallel_pass(
    make: Make, codebooks: int, classes: int, dtype: torch.dtype, tolerance: float
) -> None:
    prior = make(12, codebooks, classes).to(dtype)
    codes, labels = codes_of(prior, 3), torch.tensor([2, 0, 1]) if classes else None
    logits = stepped(prior, codes, labels)
    expected = prior.logits(codes, labels).detach().view_as(logits)
    assert logits.dtype == dtype
    assert not logits.requires_grad
    torch.testing.assert_close(logits, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("codebooks", [1, 3])
def test_a_code_moves_no_logits_up_to_its_own_and_those_of_the_next(make: Make, codebooks: int) -> None:
    prior = make(codebooks=codebooks)
    codes = codes_of(prior, 1).flatten().repeat(prior.length + 1, 1)
    n = torch.arange(prior.length)
    codes[n, n] = (codes[n, n] + 1) % prior.codebook_size  # example n has another code n; the last one is unchanged
    with torch.no_grad():
        logits = prior.logits(codes.view(-1, *prior.code_shape)).view(-1, prior.length, prior.codebook_size)
    moved = (logits[:-1] - logits[-1]).abs().amax(-1) > 1e-12
    assert not moved.tril().any()
    assert moved.diagonal(1).all()


def test_examples_and_states_do_not_mix(make: Make) -> None:
    prior = make(codebooks=2, classes=3)
    codes, labels = codes_of(prior, 3), torch.tensor([2, 0, 1])
    together = stepped(prior, codes, labels)
    for i in range(3):
        torch.testing.assert_close(stepped(prior, codes[i : i + 1], labels[i : i + 1]), together[i : i + 1])

    states = [prior.begin(1, labels[i : i + 1]) for i in range(3)]
    previous = torch.empty(1, dtype=torch.long)  # the caller's own buffer, overwritten at every step
    for n, expected in enumerate(together.unbind(1)):
        for i, state in enumerate(states):
            if n > 0:
                previous.copy_(codes[i].flatten()[n - 1])
            torch.testing.assert_close(prior.step(state, previous if n else None)[0], expected[i])


@pytest.mark.parametrize(("positions", "codebooks"), [(4, 1), (2, 2)])
def test_probabilities_sum_to_one(make: Make, positions: int, codebooks: int) -> None:
    prior = make(positions, codebooks, classes=2, codebook_size=3)
    everything = torch.tensor(list(itertools.product(range(3), repeat=4))).view(-1, *prior.code_shape)
    for label in range(2):
        total = prior.log_prob(everything, torch.full((len(everything),), label)).exp().sum()
        torch.testing.assert_close(total.item(), 1.0)


def test_log_prob_is_the_sum_over_codes_in_nats(make: Make) -> None:
    prior = make(codebooks=3)
    codes = codes_of(prior, 4)
    chosen = prior.logits(codes).log_softmax(-1).gather(-1, codes.view(4, *prior.grid, 3, 1))
    torch.testing.assert_close(prior.log_prob(codes), chosen.flatten(1).sum(1))


def test_log_prob_is_float32_under_autocast(make: Make) -> None:
    prior = make(codebooks=2).float()
    codes = codes_of(prior, 2)
    with torch.autocast("cpu", torch.bfloat16):
        low = prior.log_prob(codes)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, prior.log_prob(codes), rtol=0.02, atol=0)


def test_labels_change_every_code(make: Make) -> None:
    prior = make(classes=2)
    codes = codes_of(prior, 1)
    first, second = prior.logits(codes, torch.tensor([0])), prior.logits(codes, torch.tensor([1]))
    assert ((first - second).abs().amax(-1) > 1e-6).all()


def test_every_parameter_is_trained(make: Make) -> None:
    prior = make(8, codebooks=2, classes=2)
    prior.log_prob(codes_of(prior, 2), torch.tensor([0, 1])).sum().backward()
    idle = [name for name, p in prior.named_parameters() if p.grad is None or not (p.grad.abs() > 1e-12).any()]
    assert idle == []


@pytest.mark.parametrize("codebooks", [1, 2])
def test_training_reaches_the_entropy_of_a_markov_chain(make: Make, codebooks: int) -> None:
    """The expected loss over all sequences of 4 codes, whose first is uniform and each other one is like that before.

    It is the chain's entropy plus a divergence from it.
    """
    prior = make(4 // codebooks, codebooks, codebook_size=3).float()
    step = torch.tensor([0.7, 0.2, 0.1])  # the probability of a code 0, 1 or 2 above that before, modulo 3
    entropy = torch.tensor(3.0).log() - 3 * (step * step.log()).sum()
    codes = torch.tensor(list(itertools.product(range(3), repeat=4)))
    probabilities = step[codes.diff() % 3].prod(1) / 3
    optimizer = torch.optim.Adam(prior.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        loss = -(probabilities * prior.log_prob(codes.view(-1, *prior.code_shape))).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    assert losses[0] > entropy + 0.5
    assert all(loss > entropy - 1e-5 for loss in losses)
    torch.testing.assert_close(losses[-1], entropy, rtol=0, atol=0.02)


def test_bad_codes_and_labels_are_refused(make: Make) -> None:
    prior = make(classes=3)
    codes = codes_of(prior, 2)
    with pytest.raises(ValueError, match="3 classes: pass labels"):
        prior.logits(codes)
    with pytest.raises(ValueError, match="labels must be integers from 0 to 2"):
        prior.begin(2, torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="labels must be integers from 0 to 2"):
        prior.logits(codes, torch.tensor([-1, 0]))
    with pytest.raises(ValueError, match=r"labels must have the shape \[2\]"):
        prior.begin(2, torch.tensor([0]))
    with pytest.raises(ValueError, match="classes = 0"):
        make().begin(2, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="codes must be integers from 0 to 4"):
        prior.logits(codes + 1, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="codes must have the shape"):
        prior.logits(codes.unsqueeze(-1), torch.tensor([0, 1]))


def test_steps_out_of_turn_are_refused(make: Make) -> None:
    prior = make(2)
    state = prior.begin(1)
    with pytest.raises(ValueError, match="None at the first"):
        prior.step(state, torch.tensor([0]))
    prior.step(state, None)
    with pytest.raises(ValueError, match="None at the first"):
        prior.step(state, None)
    prior.step(state, torch.tensor([0]))
    with pytest.raises(ValueError, match="all 2 codes"):
        prior.step(state, torch.tensor([0]))
