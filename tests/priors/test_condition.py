"""Conditions of every prior: labels, features of each position or frame, and both."""

import itertools
from collections.abc import Callable

import pytest
import torch

from narrows.errors import NarrowsError
from narrows.priors import CodeSpec, Condition, Prior
from tests.priors.helpers import codes_of, condition_of, feature_influence, stepped

Make = Callable[..., Prior]
CONDITIONS = [
    # classes, channels, features of frames alone
    (2, 0, False),
    (0, 3, False),
    (0, 3, True),
    (2, 3, False),
    (2, 3, True),
]
CONDITIONED = pytest.mark.parametrize(("classes", "channels", "by_frame"), CONDITIONS)


def everything(prior: Prior) -> torch.Tensor:
    """All examples of 4 codes from 0 to 2."""
    return torch.tensor(list(itertools.product(range(3), repeat=4))).view(-1, *prior.code_shape)


@CONDITIONED
@pytest.mark.parametrize(("positions", "codebooks"), [(4, 1), (2, 2)])
def test_probabilities_sum_to_one_given_any_condition(
    make: Make, positions: int, codebooks: int, classes: int, channels: int, by_frame: bool
) -> None:
    prior = make(positions, codebooks, classes, codebook_size=3, channels=channels)
    codes, log_probs = everything(prior), []
    for seed in range(3):
        labels, features = Condition.of(condition_of(prior, 1, by_frame, seed))
        given = Condition(None if labels is None else labels.expand(len(codes)), features)
        log_probs.append(prior.log_prob(codes, given).detach())
        torch.testing.assert_close(log_probs[-1].exp().sum().item(), 1.0)
    assert any((log_prob - log_probs[0]).abs().max() > 1e-3 for log_prob in log_probs[1:])


@CONDITIONED
@pytest.mark.parametrize("codebooks", [1, 3])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_steps_give_the_logits_of_the_parallel_pass_given_any_condition(
    make: Make, codebooks: int, classes: int, channels: int, by_frame: bool, dtype: torch.dtype, tolerance: float
) -> None:
    prior = make(6, codebooks, classes, channels=channels).to(dtype)
    codes, condition = codes_of(prior, 3), condition_of(prior, 3, by_frame)
    logits = stepped(prior, codes, condition)
    assert logits.dtype == dtype
    assert not logits.requires_grad
    expected = prior.logits(codes, condition).detach().view_as(logits)
    torch.testing.assert_close(logits, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("codebooks", [1, 3])
def test_features_of_a_position_influence_its_codes(make: Make, codebooks: int) -> None:
    prior = make(6, codebooks, channels=2)
    influence = feature_influence(prior)
    assert influence.diagonal().all()
    assert not influence.all()  # of a small window, or of no later position: see the tests of each prior


def test_conditions_do_not_mix_codes(make: Make) -> None:
    prior = make(classes=2, channels=3)
    codes = codes_of(prior, 1).flatten().repeat(prior.length + 1, 1)
    n = torch.arange(prior.length)
    codes[n, n] = (codes[n, n] + 1) % prior.codebook_size
    labels, features = Condition.of(condition_of(prior, 1))
    assert labels is not None
    condition = Condition(labels.expand(len(codes)), features)
    with torch.no_grad():
        logits = prior.logits(codes.view(-1, *prior.code_shape), condition).view(-1, prior.length, prior.codebook_size)
    assert not ((logits[:-1] - logits[-1]).abs().amax(-1) > 1e-12).tril().any()


def test_features_of_a_frame_are_those_of_each_of_its_positions(make: Make) -> None:
    prior = make(codebooks=2, classes=2, channels=3)
    codes, condition = codes_of(prior, 2), condition_of(prior, 2, by_frame=True)
    labels, features = Condition.of(condition)
    assert features is not None
    whole = Condition(labels, features.expand(-1, -1, *prior.grid).contiguous())
    torch.testing.assert_close(prior.logits(codes, condition), prior.logits(codes, whole), rtol=0, atol=1e-12)


def test_examples_keep_their_own_condition(make: Make) -> None:
    prior = make(codebooks=2, classes=2, channels=3)
    codes, condition = codes_of(prior, 3), Condition.of(condition_of(prior, 3))
    together = stepped(prior, codes, condition)
    for i in range(3):
        alone = Condition(*[None if part is None else part[i : i + 1] for part in condition])
        torch.testing.assert_close(stepped(prior, codes[i : i + 1], alone)[0], together[i])


def test_a_tensor_stands_for_labels(make: Make) -> None:
    prior = make(classes=2)
    codes, labels = codes_of(prior, 2), torch.tensor([1, 0])
    assert torch.equal(prior.log_prob(codes, labels), prior.log_prob(codes, Condition(labels)))


def test_without_channels_weights_are_those_of_a_prior_with_them(make: Make) -> None:
    """The projections of features are drawn last, so the same seed gives the same other weights."""
    without, conditioned = (make(classes=2, channels=channels).state_dict() for channels in (0, 3))
    assert set(without) <= set(conditioned)
    assert len(set(conditioned) - set(without)) == 1


def test_every_parameter_is_trained_given_features(make: Make) -> None:
    prior = make(8, codebooks=2, classes=2, channels=3)
    prior.log_prob(codes_of(prior, 2), Condition(torch.tensor([0, 1]), condition_of(prior, 2)[1])).sum().backward()
    idle = [name for name, p in prior.named_parameters() if p.grad is None or not (p.grad.abs() > 1e-12).any()]
    assert idle == []


@pytest.mark.parametrize("codebooks", [1, 3])
def test_masked_positions_add_nothing(make: Make, codebooks: int) -> None:
    prior = make(codebooks=codebooks, channels=2)
    codes, condition = codes_of(prior, 3), condition_of(prior, 3)
    lengths = torch.tensor([0, 4, 6])
    mask = (torch.arange(6) < lengths.unsqueeze(1)).view(3, *prior.grid)
    chosen = prior.logits(codes, condition).log_softmax(-1).gather(-1, codes.view(3, *prior.grid, codebooks, 1))
    expected = [row[: length * codebooks].sum() for row, length in zip(chosen.flatten(1), lengths, strict=True)]
    log_prob = prior.log_prob(codes, condition, mask)
    torch.testing.assert_close(log_prob, torch.stack(expected))
    padding = ~mask if codebooks == 1 else ~mask.unsqueeze(-1)
    others = torch.where(padding, (codes + 1) % prior.codebook_size, codes)
    torch.testing.assert_close(prior.log_prob(others, condition, mask), log_prob, rtol=0, atol=1e-12)
    assert torch.equal(prior.log_prob(codes, condition, torch.ones_like(mask)), prior.log_prob(codes, condition))


def test_masks_that_do_not_fit_are_refused(make: Make) -> None:
    prior = make()
    codes = codes_of(prior, 2)
    for mask in (torch.ones(2, *prior.grid), torch.ones(1, *prior.grid).bool(), torch.ones(2, 12).bool()):
        with pytest.raises(NarrowsError, match=r"mask must be torch.bool \[2, .*\], one for each position of the grid"):
            prior.log_prob(codes, mask=mask)


def test_conditions_that_do_not_fit_are_refused(make: Make) -> None:
    prior, labels = make(classes=3, channels=2), torch.tensor([0, 1])
    grid = prior.grid
    with pytest.raises(NarrowsError, match=r"2 features of each position: pass Condition\(features=...\), \[2, 2, "):
        prior.begin(2, labels)
    with pytest.raises(NarrowsError, match="3 classes: pass labels"):
        prior.begin(2, Condition(features=torch.zeros(2, 2, *grid)))
    with pytest.raises(NarrowsError, match="channels = 0: leave features out"):
        make().begin(2, Condition(features=torch.zeros(2, 2, *grid)))
    with pytest.raises(NarrowsError, match=r"a tensor stands for labels; pass features as Condition\(features=...\)"):
        make(channels=2).begin(2, torch.zeros(2, 2, *grid))
    for shape in ((3, 2, *grid), (2, 1, *grid), (2, 3, *grid), (2, 2), (2, 2, *grid, 1), (2, 2, 5, *grid[1:])):
        with pytest.raises(NarrowsError, match=r"features must have the shape \[2, 2, .*, or 1 for an axis to broadca"):
            prior.begin(2, Condition(labels, torch.zeros(shape)))
    with pytest.raises(NarrowsError, match=r"features must be floating-point numbers, got torch.int64"):
        prior.begin(2, Condition(labels, torch.zeros(2, 2, *grid).long()))
    with pytest.raises(NarrowsError, match="classes and channels 0 or more"):
        CodeSpec((2,), 1, 2, 0, -1)
