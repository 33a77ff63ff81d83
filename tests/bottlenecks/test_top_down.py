"""A hierarchy given its latents, against its own draws and torch.distributions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from narrows.bottlenecks import Hierarchy
from narrows.bottlenecks.diagonal import DiagonalGaussian
from narrows.errors import NarrowsError

LAYERS = {1: 2, 2: 1, 4: 2}
SHAPES = [(3, 2, size, size) for size, count in LAYERS.items() for _ in range(count)]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def made(checkpointing: bool = False) -> Hierarchy:
    hierarchy = Hierarchy(width=6, latents=2, middle=4, layers=LAYERS, checkpointing=checkpointing)
    for parameter in hierarchy.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return hierarchy


def context() -> dict[int, Tensor]:
    return {size: torch.randn(3, 6, size, size) for size in (1, 4)}


def serve(monkeypatch: pytest.MonkeyPatch, noises: Iterator[Tensor]) -> None:
    monkeypatch.setattr(torch, "randn", lambda *_, **__: next(noises))


def normal(of: DiagonalGaussian) -> Normal:
    return Normal(of.mean, (of.log_variance / 2).exp())


def density(distribution: DiagonalGaussian, z: Tensor) -> Tensor:
    return normal(distribution).log_prob(z).sum((1, 2, 3))


def test_latents_taken_one_by_one_are_a_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    posterior = made()(torch.randn(3, 6, 4, 4), context=context())
    noises = [torch.randn(shape) for shape in SHAPES]
    state, log_q, log_p = posterior.begin(), torch.zeros(3), torch.zeros(3)
    for noise in noises:
        prior, q = state.distributions()
        assert q is not None
        z = q.at(noise)
        log_q, log_p = log_q + density(q, z), log_p + density(prior, z)
        state.take(z)
    assert state.done
    serve(monkeypatch, iter(noises))
    draw = posterior.draw()
    torch.testing.assert_close(state.features, draw.z[0])
    torch.testing.assert_close(log_q, draw.log_q[0])
    torch.testing.assert_close(log_p, draw.log_p[0])


def test_latents_taken_from_the_prior_are_its_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    hierarchy, given = made(), context()
    noises = [torch.randn(shape) for shape in SHAPES]
    state = hierarchy.begin(3, context=given)
    for noise in noises:
        prior, posterior = state.distributions()
        assert posterior is None
        state.take(prior.at(noise))
    serve(monkeypatch, iter(noises))
    assert torch.equal(state.features, hierarchy.sample_prior(3, (4, 4), given))


def test_the_prior_is_the_same_whether_x_is_given_or_not() -> None:
    """As a receiver needs it, who has the latents and not yet x."""
    posterior = made()(torch.randn(3, 6, 4, 4))
    sender, receiver = posterior.begin(), posterior.hierarchy.begin(3)
    for shape in SHAPES:
        assert torch.equal(sender.distributions().prior.mean, receiver.distributions().prior.mean)
        z = torch.randn(shape)
        sender.take(z)
        receiver.take(z)
    assert torch.equal(sender.features, receiver.features)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_given_latents_have_the_log_probabilities_of_a_draw(checkpointing: bool) -> None:
    hierarchy, features = made(checkpointing), torch.randn(3, 6, 4, 4, requires_grad=True)
    posterior = hierarchy(features, context=context())
    latents = [torch.randn(4, *shape) for shape in SHAPES]
    draw = posterior.follow(latents)
    for sample in range(4):
        state, log_q, log_p, rate = posterior.begin(), torch.zeros(3), torch.zeros(3), torch.zeros(3)
        for layer in latents:
            prior, q = state.distributions()
            assert q is not None
            log_q, log_p = log_q + density(q, layer[sample]), log_p + density(prior, layer[sample])
            rate = rate + kl_divergence(normal(q), normal(prior)).sum((1, 2, 3))
            state.take(layer[sample])
        torch.testing.assert_close(draw.z[sample], state.features)
        torch.testing.assert_close(draw.log_q[sample], log_q)
        torch.testing.assert_close(draw.log_p[sample], log_p)
    torch.testing.assert_close(sum(draw.layer_rates.values()), draw.rate.detach())
    (slope,) = torch.autograd.grad(draw.log_q.sum(), features)
    assert (slope != 0).any()


def test_following_a_draws_own_latents_gives_the_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    posterior = made()(torch.randn(3, 6, 4, 4))
    noises = [torch.randn(shape) for shape in SHAPES]
    state, latents = posterior.begin(), []
    for noise in noises:
        _, q = state.distributions()
        assert q is not None
        latents.append(q.at(noise).unsqueeze(0))
        state.take(latents[-1][0])
    serve(monkeypatch, iter(noises))
    draw, followed = posterior.draw(), posterior.follow(latents)
    for found, expected in zip(followed, draw, strict=True):
        torch.testing.assert_close(found, expected)


def test_latents_of_other_shapes_or_beyond_the_last_are_refused() -> None:
    posterior = made()(torch.randn(3, 6, 4, 4))
    state = posterior.begin()
    with pytest.raises(NarrowsError, match="5 of 5 layers have no latent yet"):
        _ = state.features
    with pytest.raises(NarrowsError, match=r"layer 1 must be \[3, 2, 1, 1\], not \[3, 2, 2, 2\]"):
        state.take(torch.zeros(3, 2, 2, 2))
    for shape in SHAPES:
        state.take(torch.zeros(shape))
    for beyond in (state.distributions, lambda: state.take(torch.zeros(SHAPES[-1]))):
        with pytest.raises(NarrowsError, match="all 5 layers have their latent"):
            beyond()
    with pytest.raises(NarrowsError, match="one tensor for each layer"):
        posterior.follow([torch.zeros(1, *shape) for shape in SHAPES[:-1]])
