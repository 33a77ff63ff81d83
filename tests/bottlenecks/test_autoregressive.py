import math
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from narrows.bottlenecks import Autoregressive, AutoregressivePosterior
from narrows.bottlenecks.usage import count, usage_statistics

SHAPES = [((2, 2), 1), ((2,), 2), ((), 4)]
"""Grids and codebooks of four latents."""


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def made(codebooks: int = 1, size: int = 3, block: int | None = None) -> Autoregressive:
    """A bottleneck whose codes are far from uniform and hang on each other."""
    bottleneck = Autoregressive(dim=2, codebook_size=size, codebooks=codebooks, width=8, layers=2, heads=2, block=block)
    nn.init.normal_(bottleneck.writer.weight)
    return bottleneck


def sequences(posterior: AutoregressivePosterior) -> Tensor:
    """All K^N codes of every example, [K^N, B, *grid(, M)]."""
    size = posterior.codebook_size
    codes = torch.tensor(list(product(range(size), repeat=posterior.latents)))
    examples = posterior.codes
    return codes.view(-1, 1, *examples.shape[1:]).expand(-1, *examples.shape)


def one_hot(codes: Tensor, size: int) -> list[Tensor]:
    """Codes [S, B, ...] as one-hot weights [B, S, K] for one step after another."""
    return list(nn.functional.one_hot(codes.flatten(2), size).float().permute(2, 1, 0, 3))


@pytest.mark.parametrize(("grid", "codebooks"), SHAPES)
def test_probabilities_of_all_sequences_sum_to_one(grid: tuple[int, ...], codebooks: int) -> None:
    posterior = made(codebooks)(torch.randn(2, 8, *grid))
    assert posterior.latents == 4
    log_q = posterior.log_prob(sequences(posterior))
    assert log_q.shape == (81, 2)
    torch.testing.assert_close(log_q.exp().sum(0), torch.ones(2))
    assert log_q.std(0).min() > 0.5


@pytest.mark.parametrize(("grid", "codebooks"), SHAPES)
def test_sequences_are_drawn_at_their_probabilities(grid: tuple[int, ...], codebooks: int) -> None:
    posterior = made(codebooks)(torch.randn(2, 8, *grid))
    draws = 20_000
    codes = posterior.sample(draws).flatten(2)
    places = (codes * 3 ** torch.arange(3, -1, -1)).sum(2)
    shares = nn.functional.one_hot(places, 81).double().mean(0)
    q = posterior.log_prob(sequences(posterior)).T.exp().double()
    assert ((shares - q).abs() < 4 * (q * (1 - q) / draws).sqrt() + 1e-4).all()


@pytest.mark.parametrize(("grid", "codebooks"), SHAPES)
def test_the_rate_is_unbiased(grid: tuple[int, ...], codebooks: int) -> None:
    """Its mean over all sequences, each an example of one batch, is the enumerated KL; and that of a draw is near."""
    bottleneck, features = made(codebooks), torch.randn(1, 8, *grid)
    posterior = bottleneck(features)
    codes = sequences(posterior)
    log_q = posterior.log_prob(codes)[:, 0]
    kl = (log_q.exp() * (log_q + 4 * math.log(3))).sum()
    steps = iter(one_hot(codes.transpose(0, 1), 3))
    rates = bottleneck(features.expand(81, *features.shape[1:])).relaxed(lambda _: next(steps)).rate
    torch.testing.assert_close((log_q.exp() * rates).sum(), kl)
    draw = posterior.draw(5_000)
    assert abs(draw.rate.item() - kl) < 4 * (draw.log_q - draw.log_p).std() / math.sqrt(5_000)


@pytest.mark.parametrize(("grid", "codebooks"), SHAPES)
def test_steps_with_a_cache_have_the_logits_of_all_codes_at_once(grid: tuple[int, ...], codebooks: int) -> None:
    bottleneck = made(codebooks)
    posterior = bottleneck(torch.randn(3, 8, *grid))
    logits: list[Tensor] = []

    def choose(found: Tensor) -> Tensor:
        logits.append(found)
        return torch.randint(3, found.shape[:2])

    codes = bottleneck.writer.write(posterior.memory, grid, 5, choose)
    expected = bottleneck.writer(codes, posterior.memory, grid)
    torch.testing.assert_close(torch.stack(logits, 2), expected.detach())


@pytest.mark.parametrize(("grid", "codebooks"), SHAPES)
def test_a_draw_embeds_the_codes_whose_log_probability_it_gives(grid: tuple[int, ...], codebooks: int) -> None:
    bottleneck = made(codebooks)
    posterior = bottleneck(torch.randn(3, 8, *grid))
    torch.manual_seed(1)
    codes = posterior.sample(6)
    torch.manual_seed(1)
    draw = posterior.draw(6)
    assert codes.shape == ((6, 3, *grid) if codebooks == 1 else (6, 3, *grid, codebooks))
    assert draw.z.shape == (6, 3, bottleneck.channels, *grid)
    torch.testing.assert_close(draw.z, bottleneck.embed(codes.flatten(0, 1)).unflatten(0, (6, 3)))
    torch.testing.assert_close(draw.log_q, posterior.log_prob(codes))
    torch.testing.assert_close(draw.log_p, torch.full((6, 3), -4 * math.log(3)))
    used = usage_statistics(count(codes.reshape(-1, codebooks), 3))
    assert {name: draw.statistics[name] for name in used} == used
    torch.testing.assert_close(draw.statistics["entropy"], math.log(3) - draw.rate.detach().mean() / 4)


def test_a_sample_is_that_of_its_example_alone() -> None:
    bottleneck, features = made(), torch.randn(3, 8, 2, 2)
    posterior = bottleneck(features)
    codes = posterior.sample(4)
    log_q = posterior.log_prob(codes)
    for s, b in product(range(4), range(3)):
        alone = bottleneck(features[b : b + 1]).log_prob(codes[s : s + 1, b : b + 1])
        torch.testing.assert_close(log_q[s, b], alone[0, 0])


@pytest.mark.parametrize(("grid", "codebooks"), SHAPES)
def test_relaxing_to_one_hot_weights_is_teacher_forcing(grid: tuple[int, ...], codebooks: int) -> None:
    bottleneck, features = made(codebooks), torch.randn(3, 8, *grid, requires_grad=True)
    posterior = bottleneck(features)
    torch.manual_seed(1)
    codes = posterior.sample(5)
    torch.manual_seed(1)
    drawn = posterior.draw(5)
    steps = iter(one_hot(codes, 3))
    relaxed = posterior.relaxed(lambda _: next(steps), 5)
    for found, expected in zip(relaxed, drawn, strict=True):
        torch.testing.assert_close(found, expected)
    parameters = [features, *bottleneck.writer.parameters()]
    of_relaxed = torch.autograd.grad(relaxed.log_q.sum() + relaxed.rate.sum(), parameters, retain_graph=True)
    of_drawn = torch.autograd.grad(drawn.log_q.sum() + drawn.rate.sum(), parameters)
    for found, expected in zip(of_relaxed, of_drawn, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_gradient_of_relaxed_codes_is_that_of_finite_differences() -> None:
    bottleneck = made(codebooks=2).double()

    def relaxed(features: Tensor) -> tuple[Tensor, ...]:
        draw = bottleneck(features).relaxed(lambda logits: (2 * logits).softmax(-1), 2)
        return draw.z, draw.log_q, draw.rate

    assert torch.autograd.gradcheck(relaxed, torch.randn(1, 8, 2, dtype=torch.float64, requires_grad=True))


def test_a_relaxed_latent_reads_the_mixtures_before_it() -> None:
    posterior = made()(torch.randn(1, 8, 2, 2))
    half, last = torch.tensor([0.5, 0.5, 0]), torch.tensor([0.0, 0, 1])
    weights, log_probs = [half, last, last, last], []

    def relax(given: Tensor) -> Tensor:
        log_probs.append(given)
        return weights[len(log_probs) - 1].expand_as(given)

    draw = posterior.relaxed(relax)
    torch.testing.assert_close(draw.z[0, 0, :, 0, 0], posterior.embeddings[0, :2].mean(0))
    log_q = torch.stack([w @ given.squeeze() for w, given in zip(weights, log_probs, strict=True)]).sum()
    torch.testing.assert_close(draw.log_q.squeeze(), log_q)
    codes = torch.tensor([[[[0, 2], [2, 2]]], [[[1, 2], [2, 2]]]])
    assert not torch.isclose(draw.log_q, posterior.log_prob(codes)).any()


@pytest.mark.parametrize(("grid", "codebooks"), SHAPES)
def test_codes_are_greedy_and_made_when_asked_for(grid: tuple[int, ...], codebooks: int) -> None:
    bottleneck = made(codebooks)
    posterior = bottleneck(torch.randn(3, 8, *grid))
    posterior.draw(2)
    assert "codes" not in vars(posterior)
    greedy = torch.zeros(3, 1, 4, dtype=torch.long)
    for n in range(4):
        greedy[..., n] = bottleneck.writer(greedy, posterior.memory, grid)[:, :, n].argmax(-1)
    assert torch.equal(posterior.codes.flatten(1), greedy[:, 0])
    assert posterior.codes is posterior.codes
    assert posterior.mode.shape == (3, bottleneck.channels, *grid)
    torch.testing.assert_close(posterior.mode, bottleneck.embed(posterior.codes))


def test_gradients_reach_the_encoder_through_log_q_and_the_rate_not_through_a_draw() -> None:
    bottleneck, features = made(), torch.randn(3, 8, 2, 2, requires_grad=True)
    posterior = bottleneck(features)
    draw = posterior.draw(2)
    of_encoder, of_table = torch.autograd.grad(
        draw.z.square().sum(), [features, bottleneck.embeddings], retain_graph=True, allow_unused=True
    )
    assert of_encoder is None
    assert of_table.abs().sum() > 0
    for reached in (draw.log_q, draw.rate, posterior.log_prob(posterior.sample(2))):
        assert (torch.autograd.grad(reached.sum(), features, retain_graph=True)[0] != 0).all()
    through_z = posterior.relaxed(lambda logits: logits.softmax(-1)).z
    assert (torch.autograd.grad(through_z.square().sum(), features)[0] != 0).all()


def test_no_parameter_is_left_without_a_gradient() -> None:
    """Several processes would wait for it."""
    bottleneck = made(codebooks=2)
    draw = bottleneck(torch.randn(3, 8, 2)).draw(2)
    (draw.z.sum() + draw.log_q.sum()).backward()
    assert all(parameter.grad is not None for parameter in bottleneck.parameters())


def test_float32_and_finite_under_autocast() -> None:
    bottleneck, features = made(), torch.randn(3, 8, 2, 2).bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        posterior = bottleneck(features)
        draw, relaxed = posterior.draw(2), posterior.relaxed(lambda logits: logits.softmax(-1), 2)
        given = [*draw[:4], *relaxed[:4], posterior.mode, posterior.log_prob(posterior.sample(2))]
    assert all(tensor.dtype == torch.float32 and tensor.isfinite().all() for tensor in given)
    (draw.log_q.sum() + draw.rate.sum() + relaxed.z.sum()).backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()
    exact = bottleneck(features.detach().float())
    codes = posterior.sample(2)
    torch.testing.assert_close(posterior.log_prob(codes), exact.log_prob(codes), rtol=0.05, atol=0.2)


def test_features_that_are_not_numbers_show_in_log_q_not_in_a_crash() -> None:
    posterior = made()(torch.full((2, 8, 2, 2), math.nan))
    assert posterior.statistics == {}
    assert posterior.draw(3).log_q.isnan().all()


@pytest.mark.parametrize(("rest", "codebooks"), [((), 1), ((), 2), ((2,), 1)])
@pytest.mark.parametrize("length", [4, 5])
def test_blocks_are_those_of_the_parts_alone(length: int, rest: tuple[int, ...], codebooks: int) -> None:
    bottleneck = made(codebooks, block=2)
    features = torch.randn(3, 8, length, *rest)
    posterior = bottleneck(features)
    parts = [bottleneck(part) for part in features.split(2, 2)]
    assert torch.equal(posterior.codes, torch.cat([part.codes for part in parts], 1))

    codes = posterior.sample(6)
    alone = [part.log_prob(own) for part, own in zip(parts, codes.split(2, 2), strict=True)]
    torch.testing.assert_close(posterior.log_prob(codes), sum(alone))

    draw = posterior.draw(4)
    assert draw.z.shape == (4, 3, bottleneck.channels, length, *rest)
    latents = length * codebooks * 2 ** len(rest)
    torch.testing.assert_close(draw.log_p, torch.full((4, 3), -latents * math.log(3)))
    assert draw.rate.shape == (3,)
    assert (draw.rate > 0).all()

    weights = iter(one_hot(torch.zeros(4, 9 if length == 5 else 6, 2 * codebooks * 2 ** len(rest)).long(), 3))
    relaxed = posterior.relaxed(lambda logits: next(weights).to(logits), 4)
    zeros = torch.zeros(4, *posterior.codes.shape, dtype=torch.long)
    torch.testing.assert_close(relaxed.log_q, posterior.log_prob(zeros))
    torch.testing.assert_close(relaxed.z, bottleneck.embed(zeros.flatten(0, 1)).unflatten(0, (4, 3)))


def test_masked_blocks_are_those_of_the_positions_that_count() -> None:
    bottleneck = made(block=2)
    features = torch.randn(2, 8, 6)
    mask = torch.arange(6) < torch.tensor([[6], [3]])
    posterior = bottleneck(features, mask)
    alone = bottleneck(features[1:, :, :3])
    assert torch.equal(posterior.codes[1, :3], alone.codes[0])
    assert not posterior.codes[1, 3:].any()
    codes = posterior.sample(5)
    assert not codes[:, 1, 3:].any()
    torch.testing.assert_close(posterior.log_prob(codes)[:, 1], alone.log_prob(codes[:, 1:, :3])[:, 0])


def test_a_grid_of_one_block_is_written_as_a_whole() -> None:
    torch.manual_seed(1)
    whole = made()
    torch.manual_seed(1)
    features, blocks = torch.randn(2, 8, 3), made(block=3)
    blocks.load_state_dict(whole.state_dict())
    for length in (2, 3):
        assert torch.equal(blocks(features[:, :, :length]).codes, whole(features[:, :, :length]).codes)


def test_prior_samples_are_embeddings_of_uniform_codes() -> None:
    bottleneck = made(codebooks=2, size=4)
    z = bottleneck.sample_prior(500, (4, 4))
    assert z.shape == (500, 4, 4, 4)
    first = z[:, :2].movedim(1, -1).reshape(-1, 2)
    found = (first.unsqueeze(1) == bottleneck.embeddings[0]).all(2)
    assert (found.sum(1) == 1).all()
    assert ((found.float().mean(0) - 0.25).abs() < 4 * math.sqrt(0.25 * 0.75 / len(first))).all()


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="codebook_size must be at least 1"):
        Autoregressive(dim=2, codebook_size=0)
    with pytest.raises(ValueError, match="block must be at least 1, not 0"):
        Autoregressive(dim=2, codebook_size=3, block=0)
    with pytest.raises(ValueError, match="heads must divide width"):
        Autoregressive(dim=2, codebook_size=4, width=10, heads=4)
    bottleneck = made(codebooks=2)
    with pytest.raises(ValueError, match=r"must be \[B, 8, \*grid\] for a transformer of that width"):
        bottleneck(torch.zeros(1, 4, 5))
    with pytest.raises(ValueError, match=r"\[B, \*grid, M\]"):
        bottleneck.embed(torch.zeros(1, 5, dtype=torch.long))
