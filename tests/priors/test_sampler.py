from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from narrows.errors import NarrowsError
from narrows.priors.condition import Condition
from narrows.priors.pixelcnn import GatedPixelCNN
from narrows.priors.prior import CodeSpec, Prior
from narrows.priors.sampler import sample
from narrows.sampling import Sampling, draw, filtered, tempered, top_k_filtered, top_p_filtered
from tests.priors.helpers import condition_of

K = 6
LAST_UNIFORM = 1 - 2**-24  # the greatest float32 number torch.rand gives


def build(codebooks: int = 1, classes: int = 0) -> GatedPixelCNN:
    torch.manual_seed(0)
    prior = GatedPixelCNN(CodeSpec((3, 4), codebooks, K, classes), layers=2, width=8, head_width=16)
    torch.nn.init.normal_(prior.network.condition.weight)
    prior.network.head.weight.data *= 10
    return prior


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def reference_code(
    logits: Tensor, uniform: float, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> int:
    """One code from logits [K], in plain Python."""
    p = (logits.double() / temperature).softmax(0).tolist()
    ranked = sorted(range(len(p)), key=lambda i: -p[i])[:top_k]
    total = sum(p[i] for i in ranked)
    kept: list[int] = []
    for i in ranked:
        if top_p is None or sum(p[j] for j in kept) < top_p * total:
            kept.append(i)
    threshold = uniform * sum(p[i] for i in kept)
    for i in sorted(kept):
        threshold -= p[i]
        if threshold < 0:
            return i
    raise AssertionError("the uniform number is not below 1")


@torch.no_grad()
def sample_by_full_forwards(
    prior: Prior, past: Tensor, condition: Condition | None, generator: torch.Generator, **filters: Any
) -> Tensor:
    """The sampler without caches: a parallel pass over the whole grid for every code."""
    batch, first = past.shape
    uniforms = torch.rand(batch, prior.length, generator=generator)
    codes = torch.zeros(batch, prior.length, dtype=torch.long)
    codes[:, :first] = past
    for n in range(first, prior.length):
        logits = prior.logits(codes.view(batch, *prior.code_shape), condition).view(batch, prior.length, -1)
        for b in range(batch):
            codes[b, n] = reference_code(logits[b, n], uniforms[b, n].item(), **filters)
    return codes.view(batch, *prior.code_shape)


FILTERS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.5},
    {"top_k": 2},
    {"top_p": 0.6},
    {"temperature": 1.5, "top_k": 4, "top_p": 0.8},
]


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("codebooks", [1, 3])
@pytest.mark.parametrize(("classes", "channels"), [(0, 0), (4, 0), (4, 2)])
def test_codes_equal_those_of_full_forwards(
    make: Callable[..., Prior], codebooks: int, classes: int, channels: int, filters: dict[str, Any]
) -> None:
    prior = make(codebooks=codebooks, classes=classes, channels=channels).float()
    condition = condition_of(prior, 3)
    for seed in range(3):
        past = torch.randint(prior.codebook_size, (3, 2 * seed), generator=seeded(seed))
        codes = sample(prior, 3, condition, Sampling(**filters, seed=seed), past)
        assert torch.equal(codes, sample_by_full_forwards(prior, past, condition, seeded(seed), **filters))


def test_a_generator_is_continued_and_a_seed_begins_again() -> None:
    prior, generator = build(), seeded(3)
    first, second = (sample(prior, 2, sampling=Sampling(seed=generator)) for _ in range(2))
    assert torch.equal(first, sample(prior, 2, sampling=Sampling(seed=3)))
    assert not torch.equal(first, second)
    torch.manual_seed(3)
    assert torch.equal(first, sample(prior, 2))


def test_an_example_does_not_depend_on_the_rest_of_the_batch() -> None:
    prior = build(classes=4)
    one = sample(prior, 1, torch.tensor([3]), Sampling(seed=0))
    three = sample(prior, 3, torch.tensor([3, 0, 2]), Sampling(seed=0))
    assert torch.equal(one[0], three[0])
    assert not torch.equal(three[0], three[1])


def test_codes_do_not_depend_on_autocast_and_can_be_trained_on() -> None:
    prior = build()
    with torch.autocast("cpu", torch.bfloat16):
        codes = sample(prior, 2, sampling=Sampling(seed=0))
    assert torch.equal(codes, sample(prior, 2, sampling=Sampling(seed=0)))
    prior.log_prob(codes).sum().backward()


def test_codes_are_drawn_at_their_probabilities() -> None:
    logits = torch.randn(8, generator=seeded(0))
    uniforms = (torch.arange(10_000) + 0.5) / 10_000
    codes = draw(logits.expand(10_000, -1), uniforms.unsqueeze(1))
    share = codes.bincount(minlength=8) / 10_000
    torch.testing.assert_close(share, logits.softmax(0), rtol=0, atol=2e-4)


def test_excluded_codes_are_never_drawn() -> None:
    logits = torch.randn(20_000, K, generator=seeded(0))
    uniforms = torch.rand(20_000, 1, generator=seeded(1))
    uniforms[0::4], uniforms[1::4] = 0.0, LAST_UNIFORM
    for kept in (top_k_filtered(logits, 2), top_k_filtered(logits, K), top_p_filtered(logits, 0.5)):
        codes = draw(kept, uniforms)
        assert kept.gather(1, codes.unsqueeze(1)).isfinite().all()


def test_top_k_keeps_exactly_the_k_most_probable() -> None:
    logits = torch.randn(50, K, generator=seeded(0))
    for k in range(1, K + 3):
        kept = top_k_filtered(logits, k).isfinite()
        assert (kept.sum(1) == min(k, K)).all()
        assert (logits.masked_fill(~kept, torch.inf).amin(1) > logits.masked_fill(kept, -torch.inf).amax(1)).all()
    assert top_k_filtered(torch.zeros(1, K), 2).isfinite().sum() == 2
    assert torch.equal(top_k_filtered(logits, K), logits)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_top_p_keeps_the_fewest_codes_that_reach_p(p: float) -> None:
    logits = torch.randn(50, K, generator=seeded(0)).double()
    probabilities = logits.softmax(1)
    kept = top_p_filtered(logits, p).isfinite()
    mass = (probabilities * kept).sum(1)
    least = probabilities.masked_fill(~kept, torch.inf).amin(1)
    assert (mass >= p).all()
    assert (mass - least < p).all()
    assert (least > probabilities.masked_fill(kept, 0).amax(1)).all()
    assert torch.equal(top_p_filtered(logits, 1.0), logits)


def test_temperature_raises_probabilities_to_its_inverse() -> None:
    logits = torch.randn(4, K, generator=seeded(0))
    powers = logits.softmax(1) ** (1 / 0.7)
    torch.testing.assert_close(tempered(logits, 0.7).softmax(1), powers / powers.sum(1, keepdim=True))
    assert filtered(logits) is logits


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"temperature": 0.0}, "temperature must be above 0, got 0.0"),
        ({"temperature": -1.0}, "temperature must be above 0"),
        ({"temperature": float("nan")}, "temperature must be above 0"),
        ({"top_k": 0}, "top_k must be at least 1, got 0"),
        ({"top_p": 0.0}, "top_p must be above 0 and at most 1"),
        ({"top_p": 1.5}, "top_p must be above 0 and at most 1, got 1.5"),
    ],
)
def test_bad_settings_are_refused(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampling(**setting)


def test_a_condition_that_does_not_fit_is_refused() -> None:
    with pytest.raises(NarrowsError, match="classes = 0"):
        sample(build(), 2, torch.tensor([0, 1]))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_prior_without_finite_weights_is_refused(value: float) -> None:
    prior = build()
    prior.network.head.bias.data[0, 1] = value
    with pytest.raises(NarrowsError, match="the prior's weights are not finite"):
        sample(prior, 2)


def test_progress_counts_the_codes() -> None:
    calls: list[tuple[int, int]] = []
    sample(build(codebooks=2), 1, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(n, 24) for n in range(1, 25)]


@pytest.mark.parametrize("codebooks", [1, 2])
def test_draws_may_stop_at_a_position_of_the_first_axis(codebooks: int) -> None:
    """They are the first codes of the whole draw with the same seed."""
    prior = build(codebooks=codebooks)
    whole = sample(prior, 2, sampling=Sampling(seed=0))
    calls: list[tuple[int, int]] = []
    part = sample(
        prior, 2, sampling=Sampling(seed=0), positions=2, progress=lambda done, total: calls.append((done, total))
    )
    assert torch.equal(part, whole[:, :2])
    assert calls[-1] == (part[0].numel(), part[0].numel())
    past = whole.flatten(1)[:, : part[0].numel() + 1]
    for positions in (2, len(whole[0]) + 1):
        with pytest.raises(NarrowsError, match=f"at {positions} positions were asked for"):
            sample(prior, 2, past=past, positions=positions)
