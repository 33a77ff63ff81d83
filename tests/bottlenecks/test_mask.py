"""A batch filled up with junk that a mask leaves out is, to every bottleneck, the batch without it."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from narrows.bottlenecks import (
    FSQ,
    Autoregressive,
    Bottleneck,
    Categorical,
    CosineCodebook,
    DiscreteBottleneck,
    FactorizedQuantizer,
    Gaussian,
    GaussianPosterior,
    Hierarchy,
    KMeansStart,
    LearntCodebook,
    ResidualQuantizer,
    RestartUnused,
    SampledPosterior,
    VectorQuantizer,
)
from narrows.errors import NarrowsError

LENGTH = 5
JUNK = {"huge": 1e30, "not a number": math.nan, "infinite": -math.inf, "alike": 0.5}
CARE = (KMeansStart(2, iterations=3), RestartUnused(1))
QUANTISERS: dict[str, Callable[[], DiscreteBottleneck]] = {
    "ema": lambda: VectorQuantizer(2, 8, codebooks=2, care=CARE),
    "learnt": lambda: VectorQuantizer(4, 8, codebook=LearntCodebook, care=CARE),
    "cosine": lambda: VectorQuantizer(4, 8, codebook=CosineCodebook, care=CARE),
    "more codes than tokens": lambda: VectorQuantizer(4, 60, care=CARE),
    "residual": lambda: ResidualQuantizer(partial(VectorQuantizer, 4, 8, care=CARE), depth=2),
    "factorised": lambda: FactorizedQuantizer.of(4, dim=2, codebook_size=8, care=CARE),
    "scalar": lambda: FSQ([5, 4], codebooks=2),
    "scalar of many codes": lambda: FSQ([40, 40, 40, 40]),
}
SAMPLED: dict[str, Callable[[], DiscreteBottleneck]] = {
    "categorical": lambda: Categorical(dim=3, codebook_size=2, codebooks=2),
    "autoregressive": lambda: Autoregressive(dim=2, codebook_size=3, codebooks=1, width=4, layers=2, heads=2),
    "autoregressive, two codebooks": lambda: Autoregressive(3, 3, codebooks=2, width=4, layers=1, heads=1),
}
close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-5)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def filled(features: Tensor, value: float) -> tuple[Tensor, Tensor]:
    """Features [B, C, *grid], the last axis of the grid twice as long and ending in a value, and the mask."""
    mask = torch.ones(len(features), *features.shape[2:], dtype=torch.bool)
    return torch.cat([features, torch.full_like(features, value)], -1), torch.cat([mask, ~mask], -1)


def twins(build: Callable[[], DiscreteBottleneck]) -> tuple[DiscreteBottleneck, DiscreteBottleneck]:
    first, second = build(), build()
    second.load_state_dict(first.state_dict())
    return first, second


def gradients(loss: Tensor, *of: Tensor) -> list[Tensor]:
    return [grad for grad in torch.autograd.grad(loss, of, allow_unused=True) if grad is not None]


@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize("name", QUANTISERS)
def test_training_on_a_filled_up_batch_is_training_on_the_batch(name: str, junk: str) -> None:
    plain, masked = twins(QUANTISERS[name])
    weights = torch.randn(plain.channels)
    for step in range(6):
        features = (torch.randn(4, 4, LENGTH) * (1 + 0.2 * step)).requires_grad_()
        longer, mask = filled(features, JUNK[junk])
        expected, found = plain(features), masked(longer, mask)
        assert torch.equal(found.codes[:, :LENGTH], expected.codes)
        close(found.z[..., :LENGTH], expected.z)
        close(found.losses, expected.losses)
        close(found.loss, expected.loss)
        close(found.statistics, expected.statistics)
        close(found.rate, expected.rate)
        for ours, theirs in zip(found.draw(3)[1:4], expected.draw(3)[1:4], strict=True):
            close(ours, theirs)

        objectives = [
            posterior.loss + torch.einsum("bct,c->", posterior.z[..., :LENGTH].sin(), weights)
            for posterior in (expected, found)
        ]
        of_plain = gradients(objectives[0], features, *plain.parameters())
        of_masked = gradients(objectives[1], features, *masked.parameters())
        for ours, theirs in zip(of_masked, of_plain, strict=True):
            close(ours, theirs)
        with torch.no_grad():
            for parameter, slope in zip([*plain.parameters()], of_plain[1:], strict=True):
                parameter -= 0.02 * slope
            for parameter, slope in zip([*masked.parameters()], of_masked[1:], strict=True):
                parameter -= 0.02 * slope
    for key, value in masked.state_dict().items():
        close(value, plain.state_dict()[key], msg=f"{key} differs")


@pytest.mark.parametrize("name", QUANTISERS)
def test_nothing_of_a_batch_that_counts_nowhere_is_learned(name: str) -> None:
    quantizer = QUANTISERS[name]()
    quantizer(torch.randn(4, 4, LENGTH))
    before = {key: value.clone() for key, value in quantizer.state_dict().items() if key.endswith("vectors")}
    counts = {key: value.clone() for key, value in quantizer.state_dict().items() if key.endswith("sums")}
    features = torch.full((4, 4, LENGTH), math.nan, requires_grad=True)
    posterior = quantizer(features, torch.zeros(4, LENGTH, dtype=torch.bool))
    assert posterior.loss == 0
    assert torch.equal(posterior.rate, torch.zeros(4))
    assert posterior.statistics.get("usage") == 0
    (posterior.loss + posterior.z.sum()).backward()
    assert torch.equal(features.grad, torch.zeros_like(features))
    state = quantizer.state_dict()
    for key, value in before.items():
        close(state[key], value)
    assert all((state[key].abs() <= value.abs()).all() for key, value in counts.items())


@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize("name", SAMPLED)
def test_the_log_probabilities_of_codes_are_those_without_the_junk(name: str, junk: str) -> None:
    """Of all codes at once, at every position that counts and any at the others."""
    bottleneck = SAMPLED[name]()
    for parameter in bottleneck.parameters():
        nn.init.normal_(parameter)
    features = torch.randn(3, 4, 2, requires_grad=True)
    longer, mask = filled(features, JUNK[junk])
    plain, masked = bottleneck(features), bottleneck(longer, mask)
    assert isinstance(plain, SampledPosterior)
    assert isinstance(masked, SampledPosterior)
    assert torch.equal(masked.codes[:, :2], plain.codes)
    close(masked.statistics, plain.statistics)

    latents = 2 * bottleneck.codebooks
    every = torch.tensor(list(product(range(bottleneck.codebook_size), repeat=latents)))
    codes = every.view(-1, 1, *plain.codes.shape[1:]).expand(-1, *plain.codes.shape)
    others = torch.randint(bottleneck.codebook_size, codes.shape)
    expected, found = plain.log_prob(codes), masked.log_prob(torch.cat([codes, others], 2))
    close(found, expected)
    close(found.logsumexp(0), torch.zeros(3), rtol=0, atol=1e-4)

    parameters = [features, *bottleneck.parameters()]
    of_plain = gradients(expected.square().sum(), *parameters)
    of_masked = gradients(found.square().sum(), *parameters)
    for ours, theirs in zip(of_masked, of_plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", SAMPLED)
def test_a_draw_costs_the_positions_that_count(name: str) -> None:
    """In relaxed draws the weights are given, so that they are the same with and without the junk."""
    bottleneck = SAMPLED[name]()
    features = torch.randn(3, 4, 2)
    longer, mask = filled(features, math.nan)
    plain, masked = bottleneck(features), bottleneck(longer, mask)
    expected, found = (posterior.relaxed(lambda logits: logits.softmax(-1), 2) for posterior in (plain, masked))
    close(found.z[..., :2], expected.z)
    for ours, theirs in zip(found[1:4], expected[1:4], strict=True):
        close(ours, theirs)
    close(dict(found.statistics), dict(expected.statistics))
    drawn = masked.draw(5)
    nats = 2 * bottleneck.codebooks * math.log(bottleneck.codebook_size)
    close(drawn.log_p, torch.full((5, 3), -nats))
    assert (drawn.rate <= nats + 1e-5).all()
    again = masked.sample(5)
    close(masked.log_prob(again), plain.log_prob(again[:, :, :2]))


@pytest.mark.parametrize("junk", JUNK)
def test_a_gaussian_counts_the_dimensions_of_the_positions_that_count(junk: str) -> None:
    bottleneck, features = Gaussian(2), torch.randn(3, 4, 2, LENGTH, requires_grad=True)
    longer, mask = filled(features, JUNK[junk])
    plain, masked = bottleneck(features), bottleneck(longer, mask)
    close(masked.rate, plain.rate)
    assert torch.equal(masked.statistics["active_units"], plain.statistics["active_units"])
    close(*(gradients(posterior.rate.square().sum(), features)[0] for posterior in (masked, plain)))
    draw = masked.draw(4)
    z = draw.z[..., :LENGTH]
    posterior = torch.distributions.Normal(plain.mean, (plain.log_variance / 2).exp())
    close(draw.log_q, posterior.log_prob(z).sum((2, 3, 4)))
    close(draw.log_p, torch.distributions.Normal(0.0, 1.0).log_prob(z).sum((2, 3, 4)))


def test_a_unit_is_active_by_the_examples_in_which_it_counts() -> None:
    mean = torch.tensor([[[2.0, 2.0]], [[0.0, 0.0]]])
    mask = torch.tensor([[True, False], [True, True]])
    posterior = GaussianPosterior(mean, torch.zeros_like(mean), mask)
    assert posterior.statistics["active_units"] == 1
    close(posterior.rate, torch.tensor([2.0, 0.0]))


ALL: dict[str, Callable[[], Bottleneck]] = {**QUANTISERS, **SAMPLED, "gaussian": lambda: Gaussian(2)}


@pytest.mark.parametrize("name", ALL)
def test_examples_of_different_lengths_are_as_each_alone(name: str) -> None:
    bottleneck = ALL[name]().eval()
    features, lengths = torch.randn(3, 4, LENGTH), [5, 2, 0]
    mask = torch.arange(LENGTH) < torch.tensor(lengths).unsqueeze(1)
    together = bottleneck(features.where(mask.unsqueeze(1), math.nan), mask)
    torch.manual_seed(1)
    draw = together.draw(2)
    for each, length in enumerate(lengths[:2]):
        alone = bottleneck(features[each : each + 1, :, :length])
        if together.codes is not None:
            assert torch.equal(together.codes[each, :length], alone.codes[0])
        close(together.mode[each, :, :length], alone.mode[0])
        if isinstance(together, SampledPosterior):
            codes = together.sample(4)
            close(together.log_prob(codes)[:, each], alone.log_prob(codes[:, each : each + 1, :length])[:, 0])
        close(draw.log_p[:, each].isfinite(), torch.ones(2, dtype=torch.bool))
        if not isinstance(together, GaussianPosterior):
            close(draw.log_p[:, each], alone.draw(2).log_p[:, 0])
    close(draw.rate[2], torch.zeros(()))
    close(torch.stack([draw.log_q[:, 2], draw.log_p[:, 2]]), torch.zeros(2, 2))


@pytest.mark.parametrize("name", ALL)
def test_a_mask_that_lets_everything_count_changes_nothing(name: str) -> None:
    bottleneck = ALL[name]().eval()
    features = torch.randn(3, 4, LENGTH)
    plain, masked = bottleneck(features), bottleneck(features, torch.ones(3, LENGTH, dtype=torch.bool))
    assert torch.equal(masked.mode, plain.mode)
    torch.manual_seed(1)
    expected = plain.draw(2)
    torch.manual_seed(1)
    found = masked.draw(2)
    assert torch.equal(found.z, expected.z)
    for ours, theirs in zip(found[1:4], expected[1:4], strict=True):
        close(ours, theirs)
    close({**masked.statistics, **found.statistics}, {**plain.statistics, **expected.statistics})
    close(masked.losses, plain.losses)


@pytest.mark.parametrize("name", ALL)
def test_a_mask_of_another_shape_or_type_is_refused(name: str) -> None:
    bottleneck = ALL[name]()
    for mask in (torch.ones(3, 2 * LENGTH, dtype=torch.bool), torch.ones(3, LENGTH)):
        with pytest.raises(NarrowsError, match=rf"the mask must be bool \[3, {LENGTH}\]"):
            bottleneck(torch.randn(3, 4, LENGTH), mask)


def test_a_hierarchy_has_no_positions_to_leave_out() -> None:
    hierarchy = Hierarchy(width=4, latents=1, middle=2, layers={1: 1, 2: 1})
    with pytest.raises(NarrowsError, match="choose another bottleneck"):
        hierarchy(torch.randn(1, 4, 2, 2), torch.ones(1, 2, 2, dtype=torch.bool))


@pytest.mark.parametrize("name", SAMPLED)
def test_codes_that_do_not_count_say_nothing_to_those_after_them(name: str) -> None:
    """What is left is a distribution of the codes that count, wherever the others are."""
    bottleneck = SAMPLED[name]()
    for parameter in bottleneck.parameters():
        nn.init.normal_(parameter)
    mask = torch.tensor([[True, False, True], [False, True, True]])
    posterior = bottleneck(torch.randn(2, 4, 3), mask)
    assert isinstance(posterior, SampledPosterior)
    latents = 2 * bottleneck.codebooks
    every = torch.tensor(list(product(range(bottleneck.codebook_size), repeat=latents)))
    shape = (len(every), *posterior.codes.shape)
    found = []
    for _ in range(2):
        codes = torch.randint(bottleneck.codebook_size, shape)
        counted = mask.view(1, 2, 3, *[1] * (len(shape) - 3)).expand(shape)
        codes[counted] = every.unsqueeze(1).expand(-1, 2, -1).flatten()
        found.append(posterior.log_prob(codes))
    assert torch.equal(*found)
    close(found[0].logsumexp(0), torch.zeros(2), rtol=0, atol=1e-4)
    drawn = posterior.sample(20_000)
    often = (drawn.unsqueeze(1)[counted[:1].expand_as(drawn).unsqueeze(1)]).view(20_000, 2, latents)
    for each in range(2):
        likely = found[0][:, each].argmax()
        share = (often[:, each] == every[likely]).all(1).float().mean()
        close(share, found[0][likely, each].exp(), rtol=0, atol=0.02)


@pytest.mark.parametrize("name", ALL)
def test_an_example_without_any_position_that_counts_spoils_no_gradient(name: str) -> None:
    bottleneck = ALL[name]()
    mask = torch.arange(LENGTH) < torch.tensor([LENGTH, 0]).unsqueeze(1)
    features = torch.randn(2, 4, LENGTH).where(mask.unsqueeze(1), math.nan).requires_grad_()
    posterior = bottleneck(features, mask)
    draw = posterior.draw(2)
    loss = draw.log_q.sum() + draw.rate.sum() + sum(posterior.losses.values()) + draw.z[..., 0, :].sum()
    if isinstance(posterior, SampledPosterior):
        loss = loss + posterior.relaxed(lambda logits: logits.softmax(-1)).log_q.sum()
    for slope in gradients(loss, features, *bottleneck.parameters()):
        assert slope.isfinite().all()


@pytest.mark.parametrize("name", QUANTISERS)
def test_a_masked_pass_that_is_run_again_has_the_codes_of_the_first(name: str) -> None:
    plain, checkpointed = twins(QUANTISERS[name])
    for step in range(4):
        features = torch.randn(4, 4, LENGTH) + step
        longer, mask = filled(features, math.nan)
        slopes = []
        for quantizer, again in ((plain, False), (checkpointed, True)):
            x = longer.clone().requires_grad_()

            def loss(x: Tensor, quantizer: DiscreteBottleneck = quantizer, mask: Tensor = mask) -> Tensor:
                posterior = quantizer(x.tanh(), mask)
                return posterior.loss + posterior.z[..., :LENGTH].square().sum()

            run = partial(checkpoint, loss, use_reentrant=False) if again else loss
            first, second = run(x), run(x + 1)
            slopes.append(torch.cat([torch.autograd.grad(value, x)[0] for value in (first, second)]))
        assert torch.equal(*(slope[..., :LENGTH] for slope in slopes))
    for key, value in checkpointed.state_dict().items():
        assert torch.equal(value, plain.state_dict()[key]), key
