import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical as Reference

from narrows.bottlenecks import Categorical, CategoricalPosterior
from narrows.bottlenecks.posterior import Draw


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def reference(bottleneck: Categorical, features: Tensor) -> Reference:
    """Distributions [B, *grid, M] of the logits, which lie as [M, K] along the channels."""
    return Reference(logits=torch.stack(features.chunk(bottleneck.codebooks, 1), -1).movedim(1, -1))


SHAPES = [((5, 2, 3), 1), ((5, 2, 3), 2), ((5,), 3), ((4, 6), 1)]


@pytest.mark.parametrize(("batch_and_grid", "codebooks"), SHAPES)
def test_agrees_with_torch_distributions(batch_and_grid: tuple[int, ...], codebooks: int) -> None:
    bottleneck = Categorical(dim=2, codebook_size=7, codebooks=codebooks)
    batch, *grid = batch_and_grid
    features = torch.randn(batch, bottleneck.features, *grid)
    posterior, expected = bottleneck(features), reference(bottleneck, features)
    latents = math.prod(grid) * codebooks
    codes = expected.sample((4,))
    assert codes.shape == (4, batch, *grid, codebooks)
    log_q = expected.log_prob(codes).flatten(2).sum(2)
    torch.testing.assert_close(posterior.log_prob(codes.squeeze(-1) if codebooks == 1 else codes), log_q)
    torch.testing.assert_close(posterior.rate, latents * math.log(7) - expected.entropy().flatten(1).sum(1))
    torch.testing.assert_close(posterior.statistics["entropy"], expected.entropy().mean())
    mode = expected.probs.argmax(-1)
    assert torch.equal(posterior.codes, mode.squeeze(-1) if codebooks == 1 else mode)
    torch.testing.assert_close(posterior.mode, bottleneck.embed(posterior.codes))
    draw = posterior.draw(3)
    assert draw.z.shape == (3, batch, bottleneck.channels, *grid)
    torch.testing.assert_close(draw.log_p, torch.full((3, batch), -latents * math.log(7)))


def test_a_draw_embeds_the_codes_whose_log_probability_it_gives() -> None:
    bottleneck = Categorical(dim=2, codebook_size=4, codebooks=2)
    posterior = bottleneck(torch.randn(3, 8, 5))
    torch.manual_seed(1)
    codes = posterior.sample(6)
    torch.manual_seed(1)
    draw = posterior.draw(6)
    assert codes.shape == (6, 3, 5, 2)
    torch.testing.assert_close(draw.z, bottleneck.embed(codes.flatten(0, 1)).unflatten(0, (6, 3)))
    torch.testing.assert_close(draw.log_q, posterior.log_prob(codes))
    vectors = torch.cat([bottleneck.embeddings[m][codes[..., m]] for m in range(2)], -1).movedim(-1, 2)
    torch.testing.assert_close(draw.z, vectors)


def test_codes_are_drawn_at_their_probabilities() -> None:
    logits = torch.tensor([[[0.0, 2.0, -1.0, -200.0], [3.0, -150.0, 0.0, 1.0]]])
    posterior = CategoricalPosterior(logits, torch.zeros(2, 4, 1))
    draws = 200_000
    shares = torch.nn.functional.one_hot(posterior.sample(draws)[:, 0], 4).double().mean(0)
    p = logits[0].double().softmax(-1)
    assert ((shares - p).abs() <= 4 * (p * (1 - p) / draws).sqrt() + 1e-12).all()
    assert shares[0, 3] == shares[1, 1] == 0


def test_rate_is_the_mean_log_ratio_of_draws() -> None:
    posterior = Categorical(dim=1, codebook_size=5)(torch.randn(4, 5, 3))
    draw = posterior.draw(20_000)
    ratio = draw.log_q - draw.log_p
    assert ((ratio.mean(0) - posterior.rate).abs() < 4 * ratio.std(0) / math.sqrt(20_000)).all()


def test_a_draw_has_no_gradient_to_the_encoder_but_through_log_q() -> None:
    bottleneck, features = Categorical(dim=2, codebook_size=4), torch.randn(3, 4, 5, requires_grad=True)
    draw = bottleneck(features).draw(2)
    of_encoder, of_table = torch.autograd.grad(
        draw.z.square().sum(), [features, bottleneck.embeddings], retain_graph=True, allow_unused=True
    )
    assert of_encoder is None
    assert of_table.abs().sum() > 0
    assert torch.autograd.grad(draw.log_q.sum(), features)[0].abs().sum() > 0


def test_relaxing_to_one_hot_weights_is_a_draw() -> None:
    """The mixture of one category is its embedding, and its log q that of the code; soft weights mix."""
    bottleneck = Categorical(dim=2, codebook_size=4, codebooks=2)
    posterior = bottleneck(torch.randn(3, 8, 5))
    codes = posterior.sample(6)

    def pick(logits: Tensor) -> Tensor:
        assert logits.shape == (6, 3, 5, 2, 4)
        return torch.nn.functional.one_hot(codes, 4).float()

    draw = posterior.relaxed(pick, 6)
    assert isinstance(draw, Draw)
    torch.testing.assert_close(draw.z, bottleneck.embed(codes.flatten(0, 1)).unflatten(0, (6, 3)))
    torch.testing.assert_close(draw.log_q, posterior.log_prob(codes))
    even = posterior.relaxed(lambda logits: torch.full_like(logits, 1 / 4)).z[0]
    means = bottleneck.embeddings.mean(1).flatten()
    torch.testing.assert_close(even, means.view(1, 4, 1).expand(3, 4, 5))


def test_statistics_are_those_of_the_most_probable_codes() -> None:
    features = torch.zeros(1, 4, 4)
    features[0, [0, 0, 2, 2], range(4)] = 5.0
    statistics = Categorical(dim=1, codebook_size=4)(features).statistics
    assert statistics["perplexity"] == pytest.approx(2)
    assert statistics["usage"] == 0.5


def test_float32_whatever_the_autocast() -> None:
    bottleneck, features = Categorical(dim=3, codebook_size=6), torch.randn(4, 6, 5).bfloat16()
    expected = bottleneck(features.float())

    def everything(posterior: CategoricalPosterior) -> list[Tensor]:
        torch.manual_seed(1)
        mixed = posterior.relaxed(lambda logits: logits.softmax(-1))
        return [posterior.rate, posterior.mode, *posterior.draw(2)[:4], *mixed[:4]]

    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = everything(bottleneck(features))
    for got, wanted in zip(actual, everything(expected), strict=True):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, wanted, rtol=0, atol=0)


@pytest.mark.parametrize("size", [1e3, 1e6])
def test_extreme_logits_stay_finite_and_keep_a_gradient(size: float) -> None:
    features = (size * torch.randn(8, 4, 3)).requires_grad_()
    posterior = Categorical(dim=2, codebook_size=4)(features)
    draw = posterior.draw(3)
    (posterior.rate.sum() + draw.log_q.sum()).backward()
    assert all(tensor.isfinite().all() for tensor in (*draw[:4], posterior.rate, features.grad))


def test_logits_that_are_not_numbers_show_in_log_q_not_in_a_crash() -> None:
    draw = Categorical(dim=2, codebook_size=4)(torch.full((2, 4, 3), math.nan)).draw(3)
    assert draw.log_q.isnan().all()


def test_prior_samples_are_embeddings_of_uniform_codes() -> None:
    bottleneck = Categorical(dim=3, codebook_size=4, codebooks=2)
    z = bottleneck.sample_prior(500, (4, 4))
    assert z.shape == (500, 6, 4, 4)
    first = z[:, :3].movedim(1, -1).reshape(-1, 3)
    found = (first.unsqueeze(1) == bottleneck.embeddings[0]).all(2)
    assert (found.sum(1) == 1).all()
    assert ((found.float().mean(0) - 0.25).abs() < 4 * math.sqrt(0.25 * 0.75 / len(first))).all()


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="codebook_size must be at least 1"):
        Categorical(dim=2, codebook_size=0)
    bottleneck = Categorical(dim=2, codebook_size=4, codebooks=2)
    with pytest.raises(ValueError, match=r"must be \[B, 8, \*grid\] for 2 latent\(s\) of 4 categories"):
        bottleneck(torch.zeros(1, 4, 5))
    with pytest.raises(ValueError, match=r"\[B, \*grid, M\]"):
        bottleneck.embed(torch.zeros(1, 5, dtype=torch.long))
    with pytest.raises(ValueError, match="another codebook_size"):
        bottleneck.embed(torch.full((1, 5, 2), 4))
