"""The VQ-VAE bottleneck against brute force, hand-computed gradients and plain loops over equations 1-8."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from jsonargparse import ArgumentParser
from torch import Tensor, nn

from narrows.bottlenecks.codebook import (
    CosineCodebook,
    EMACodebook,
    KMeansStart,
    LearntCodebook,
    RestartUnused,
    nearest,
)
from narrows.bottlenecks.posterior import DiscreteBottleneck
from narrows.bottlenecks.vector import FactorizedQuantizer, VectorQuantizer


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def scattered(quantizer: VectorQuantizer) -> VectorQuantizer:
    """Spread the vectors as far as the features of the tests, so that many codes are used."""
    vectors = torch.randn_like(quantizer.codebook.vectors)
    quantizer.codebook.vectors.data.copy_(vectors)
    if isinstance(quantizer.codebook, EMACodebook):
        quantizer.codebook.sums.copy_(vectors)
    return quantizer


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("tokens", "books", "size", "dim"), [(5000, 1, 200, 8), (300, 3, 64, 5), (7, 2, 1, 4), (0, 1, 9, 3)]
)
def test_nearest_is_the_argmin_of_the_distances(tokens: int, books: int, size: int, dim: int) -> None:
    z, e = torch.randn(tokens, books, dim), torch.randn(books, size, dim)
    distances = torch.cdist(z.double().transpose(0, 1), e.double(), compute_mode="donot_use_mm_for_euclid_dist")
    assert torch.equal(nearest(z, e), distances.argmin(2).T)


def test_exact_ties_go_to_the_lowest_code() -> None:
    e = torch.randn(1, 300, 16)
    for copy in (40, 63, 64, 130, 299):
        e[0, copy] = e[0, 17]
    assert (nearest(e[:, [17]].expand(50, 1, 16), e) == 17).all()
    assert (nearest(torch.zeros(3000, 1, 4), torch.ones(1, 100, 4)) == 0).all()


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_tokens_that_are_not_finite_still_get_a_code(value: float) -> None:
    codes = nearest(torch.full((4, 1, 3), value), torch.randn(1, 10, 3))
    assert codes.min() >= 0
    assert codes.max() < 10


@pytest.mark.parametrize("grid", [(), (7,), (3, 5), (2, 3, 4)])
@pytest.mark.parametrize("books", [1, 3])
def test_one_line_gives_latents_codes_and_loss_on_any_grid(grid: tuple[int, ...], books: int) -> None:
    quantizer = scattered(VectorQuantizer(dim=4, codebook_size=11, codebooks=books, care=[]))
    vectors = quantizer.codebook.vectors.clone()
    features = torch.randn(6, quantizer.features, *grid)
    quantized, codes, loss = quantizer(features)
    assert quantized.shape == features.shape
    assert codes.shape == (6, *grid) + ((books,) if books > 1 else ())
    assert loss.shape == ()

    tokens = features.movedim(1, -1).unflatten(-1, (books, 4))
    picked = codes.view(6, *grid, books)
    expected = torch.stack([vectors[m][picked[..., m]] for m in range(books)], -2)
    assert torch.equal(quantized, expected.flatten(-2).movedim(-1, 1))
    torch.testing.assert_close(loss, 0.25 * (tokens - expected).square().sum(-1).mean())


@pytest.mark.parametrize("books", [1, 3])
def test_codes_and_latents_are_a_round_trip(books: int) -> None:
    quantizer = scattered(VectorQuantizer(dim=4, codebook_size=11, codebooks=books, care=[])).eval()
    posterior = quantizer(torch.randn(6, quantizer.features, 3, 5))
    assert torch.equal(quantizer.embed(posterior.codes), posterior.mode)
    drawn = quantizer.sample_prior(2, (3, 5))
    assert torch.equal(quantizer(drawn).z, drawn)


def test_latents_are_laid_out_as_the_features() -> None:
    quantizer = VectorQuantizer(dim=4, codebook_size=11).eval()
    features = torch.randn(2, 4, 3, 5)
    assert quantizer(features).z.is_contiguous()
    last = quantizer(features.to(memory_format=torch.channels_last))
    assert last.z.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(last.z, quantizer(features).z)


@pytest.mark.parametrize("books", [1, 2])
def test_the_features_receive_the_latents_gradient_and_that_of_the_commitment(books: int) -> None:
    quantizer = scattered(VectorQuantizer(dim=3, codebook_size=16, codebooks=books, commitment=0.7)).eval()
    features = torch.randn(4, quantizer.features, 5, requires_grad=True)
    posterior = quantizer(features)
    upstream = torch.randn_like(posterior.z)
    torch.autograd.backward([posterior.z, posterior.losses["commitment"]], [upstream, torch.tensor(1.5)])
    latents = 4 * 5 * books
    expected = upstream + 1.5 * 0.7 * 2 * (features - posterior.z).detach() / latents
    torch.testing.assert_close(features.grad, expected)


def test_each_loss_term_moves_its_own_side_with_its_own_weight() -> None:
    quantizer = scattered(VectorQuantizer(dim=3, codebook_size=16, commitment=0.7, codebook=LearntCodebook))
    features = torch.randn(4, 3, 5, requires_grad=True)
    posterior = quantizer(features)
    error = (features - posterior.z).square().sum(1).mean()
    torch.testing.assert_close(posterior.losses, {"codebook": error, "commitment": 0.7 * error})

    z, codes, total = posterior
    (total + (z * torch.randn_like(z)).sum()).backward()
    expected = torch.zeros_like(quantizer.codebook.vectors)
    difference = (z - features).detach().movedim(1, -1).reshape(-1, 3)
    expected[0].index_add_(0, codes.flatten(), 2 * difference / 20)
    torch.testing.assert_close(quantizer.codebook.vectors.grad, expected)

    features.grad = None
    quantizer(features).losses["codebook"].backward()
    assert features.grad is None


def test_latents_may_be_changed_in_place_before_the_backward_pass() -> None:
    features = torch.randn(2, 4, 3, requires_grad=True)
    z, _, loss = VectorQuantizer(dim=4, codebook_size=8)(features.movedim(1, -1).contiguous().movedim(-1, 1))
    kept = z.detach() > 0
    (F.relu(z, inplace=True).sum() + 0 * loss).backward()
    torch.testing.assert_close(features.grad, kept.float())


def test_moving_averages_follow_equations_6_to_8() -> None:
    size, decay, smoothing = 5, 0.8, 0.1
    quantizer = VectorQuantizer(
        dim=2, codebook_size=size, codebook=partial(EMACodebook, decay=decay, smoothing=smoothing), care=[]
    )
    e = quantizer.codebook.vectors[0].double()
    big_n, m = torch.ones(size).double(), e.clone()
    for _ in range(4):
        features = torch.randn(3, 2, 6)
        _, codes, _ = quantizer(features)
        tokens, codes = features.movedim(1, -1).reshape(-1, 2).double(), codes.flatten()
        for i in range(size):
            mine = tokens[codes == i]
            big_n[i] = big_n[i] * decay + (1 - decay) * len(mine)
            m[i] = m[i] * decay + (1 - decay) * mine.sum(0)
        smoothed = (big_n + smoothing) / (big_n.sum() + size * smoothing) * big_n.sum()
        e = m / smoothed[:, None]
        torch.testing.assert_close(quantizer.codebook.vectors[0].double(), e, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("books", [1, 3])
def test_the_posterior_is_deterministic_and_its_rate_that_of_a_uniform_prior(books: int) -> None:
    posterior = VectorQuantizer(dim=2, codebook_size=11, codebooks=books)(torch.randn(6, 2 * books, 3, 5))
    nats = torch.full((6,), 15 * books * math.log(11))
    torch.testing.assert_close(posterior.rate, nats)
    z, log_q, log_p = posterior.draw(4)[:3]
    assert torch.equal(z, torch.stack([posterior.mode] * 4))
    assert torch.equal(log_q, torch.zeros(4, 6))
    torch.testing.assert_close(log_p, -nats.expand(4, 6))


def test_statistics_of_a_known_histogram() -> None:
    quantizer = VectorQuantizer(dim=1, codebook_size=4, codebooks=2).eval()
    quantizer.codebook.vectors.copy_(torch.arange(4.0).view(1, 4, 1))
    first, second = torch.tensor([0.0, 0, 0, 1]), torch.tensor([0.0, 1, 2, 3])
    statistics = quantizer(torch.stack([first, second], 1)).statistics
    perplexity = math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    assert statistics["perplexity"].item() == pytest.approx((perplexity + 4) / 2)
    assert statistics["usage"].item() == pytest.approx((2 / 4 + 4 / 4) / 2)


def test_initial_vectors_are_those_of_the_papers_code() -> None:
    vectors = VectorQuantizer(dim=64, codebook_size=512).codebook.vectors * 512
    assert vectors.min() >= -1
    assert vectors.max() <= 1
    assert vectors.var().item() == pytest.approx(1 / 3, rel=0.02)


@pytest.mark.parametrize("codebook", [EMACodebook, CosineCodebook, LearntCodebook])
def test_neither_eval_mode_nor_freezing_lets_a_codebook_change(codebook: type) -> None:
    quantizer = VectorQuantizer(dim=4, codebook_size=8, codebook=codebook, care=[KMeansStart(), RestartUnused(after=1)])
    features = torch.randn(3, 4, 5, requires_grad=True)
    before = snapshot(quantizer)
    quantizer.eval()(features)
    assert same(before, snapshot(quantizer))

    quantizer.train()(features).losses["commitment"].backward()
    assert not same(before, snapshot(quantizer))

    quantizer.freeze()
    before = snapshot(quantizer)
    optimiser = torch.optim.SGD([features, *quantizer.parameters()], lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(2):
        _, _, loss = quantizer.train()(features)
        loss.backward()
        optimiser.step()
    assert same(before, snapshot(quantizer))


def test_a_restart_resets_the_vector_its_count_and_its_sum() -> None:
    quantizer = VectorQuantizer(dim=2, codebook_size=3, care=[RestartUnused(after=2)])
    book = quantizer.codebook
    assert isinstance(book, EMACodebook)
    book.vectors.copy_(torch.tensor([[[0.0, 0], [50, 50], [90, 90]]]))
    book.sums.copy_(book.vectors)
    features = torch.randn(40, 2)
    for _ in range(2):
        quantizer(features)
        assert (book.vectors[0, 1:] > 20).all()
    assert book.idle.tolist() == [[0, 2, 2]]

    placed = {}
    observe = book.observe
    book.observe = lambda *batch: placed.update(snapshot(book)) or observe(*batch)  # type: ignore[method-assign]
    _, codes, _ = quantizer(features)
    for code in (1, 2):
        assert (features == placed["vectors"][0, code]).all(1).any()
        assert torch.equal(placed["sums"][0, code], placed["vectors"][0, code])
        assert placed["counts"][0, code] == 1
        assert (codes == code).any()
    assert not torch.equal(placed["vectors"][0, 1], placed["vectors"][0, 2])
    assert book.idle.tolist() == [[0, 0, 0]]
    assert (book.vectors.abs() < 5).all()


def test_a_restart_has_no_more_codes_than_tokens() -> None:
    quantizer = VectorQuantizer(dim=2, codebook_size=30, care=[RestartUnused(after=1)])
    features = torch.randn(4, 2) + 100
    quantizer(features)
    quantizer(features)
    assert (quantizer.codebook.vectors > 50).all(2).sum() == 4


@pytest.mark.parametrize("codebook", [EMACodebook, LearntCodebook])
def test_k_means_start_ends_at_a_fixed_point_of_k_means(codebook: type) -> None:
    quantizer = VectorQuantizer(
        dim=2, codebook_size=6, codebooks=2, codebook=codebook, care=[KMeansStart(iterations=50)]
    )
    features = torch.randn(80, 4)
    z, codes, _ = quantizer(features)
    for m in range(2):
        for code in range(6):
            mine = codes[:, m] == code
            mean = features[mine, 2 * m : 2 * m + 2].mean(0)
            torch.testing.assert_close(z[mine, 2 * m : 2 * m + 2], mean.expand(int(mine.sum()), 2))
    assert codes.unique().numel() == 6


def test_k_means_start_takes_more_batches_where_one_has_too_few_tokens() -> None:
    quantizer = VectorQuantizer(dim=2, codebook_size=12, care=[KMeansStart(batches=3)])
    batches = torch.randn(4, 5, 2) + torch.tensor([10.0, 20, 30, 40]).view(4, 1, 1)
    for batch in batches:
        quantizer(batch)
    vectors = quantizer.codebook.vectors[0].mean(1)
    assert [int(((vectors - centre).abs() < 5).sum()) for centre in (10, 20, 30, 40)] == [5, 5, 2, 0]


def test_cosine_codes_depend_on_directions_only() -> None:
    quantizer = scattered(VectorQuantizer(dim=4, codebook_size=20, codebooks=2, codebook=CosineCodebook)).eval()
    features = torch.randn(6, 8, 5, requires_grad=True)
    z, codes, loss = quantizer(features)
    tokens = features.movedim(1, -1).unflatten(-1, (2, 4))
    cosines = F.cosine_similarity(tokens.unsqueeze(-2), quantizer.codebook.vectors, dim=-1)
    assert torch.equal(codes, cosines.argmax(-1))
    torch.testing.assert_close(loss, 0.25 * (2 - 2 * cosines.amax(-1)).mean())
    torch.testing.assert_close(z.unflatten(1, (2, 4)).norm(dim=2), torch.ones(6, 2, 5))
    assert torch.equal(quantizer(7 * features).codes, codes)

    z.backward(torch.randn_like(z))
    assert features.grad is not None
    radial = (features.grad * features).unflatten(1, (2, 4)).sum(2)
    torch.testing.assert_close(radial, torch.zeros_like(radial), atol=1e-5, rtol=0)


def test_factorised_codes_are_looked_up_between_two_projections() -> None:
    inner = scattered(VectorQuantizer(dim=3, codebook_size=20))
    quantizer = FactorizedQuantizer(features=16, quantizer=inner)
    features = torch.randn(6, 16, 5, 2)
    z, codes, loss = quantizer.eval()(features)
    down = F.conv2d(features, quantizer.down.weight[..., None, None], quantizer.down.bias)
    assert torch.equal(codes, inner(down).codes)
    torch.testing.assert_close(z, F.conv2d(inner(down).z, quantizer.up.weight[..., None, None], quantizer.up.bias))
    torch.testing.assert_close(quantizer.embed(codes), z)
    assert quantizer.sample_prior(2, (4,)).shape == (2, 16, 4)
    (z.sum() + loss).backward()
    assert quantizer.down.weight.grad is not None
    assert quantizer.down.weight.grad.abs().sum() > 0


def test_training_resumes_bit_for_bit() -> None:
    def build() -> VectorQuantizer:
        return VectorQuantizer(
            dim=2, codebook_size=40, codebooks=2, care=[KMeansStart(batches=2), RestartUnused(after=2)]
        )

    batches = torch.randn(8, 30, 4)
    whole, resumed = build(), build()
    for batch in batches[:4]:
        whole(batch)
    resumed.load_state_dict(snapshot(whole))
    torch.manual_seed(1)
    for batch in batches[4:]:
        assert torch.equal(whole(batch).codes, resumed(batch).codes)
    assert same(snapshot(whole), snapshot(resumed))


def test_under_autocast_all_is_computed_in_float32() -> None:
    quantizer = scattered(VectorQuantizer(dim=8, codebook_size=500))
    reference = scattered(VectorQuantizer(dim=8, codebook_size=500))
    reference.load_state_dict(quantizer.state_dict())
    features = torch.randn(50, 8, 20, dtype=torch.bfloat16).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z, codes, loss = quantizer(features)
    expected = reference(features.detach().float())
    assert torch.equal(codes, expected.codes)
    assert z.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected.losses["commitment"])
    assert same(snapshot(quantizer), snapshot(reference))
    (z.sum() + loss).backward()
    assert features.grad is not None
    assert features.grad.dtype == torch.bfloat16


def test_large_half_precision_features_have_a_finite_loss() -> None:
    quantizer = VectorQuantizer(dim=8, codebook_size=16, care=[])
    _, _, loss = quantizer(torch.full((4, 8), 6e4, dtype=torch.float16))
    assert loss.item() == pytest.approx(0.25 * 8 * 6e4**2, rel=1e-2)


def test_a_converted_codebook_still_codes_but_refuses_to_learn() -> None:
    quantizer = scattered(VectorQuantizer(dim=4, codebook_size=16)).bfloat16()
    features = torch.randn(3, 4, dtype=torch.bfloat16)
    posterior = quantizer.eval()(features)
    assert torch.equal(quantizer.embed(posterior.codes), posterior.z)
    with pytest.raises(ValueError, match="autocast"):
        quantizer.train()(features)


def test_an_empty_batch_changes_no_vector_and_has_no_loss() -> None:
    quantizer = VectorQuantizer(dim=4, codebook_size=16, care=[KMeansStart(), RestartUnused()])
    before = quantizer.codebook.vectors.clone()
    z, codes, loss = quantizer(torch.zeros(0, 4, 3))
    assert (z.shape, codes.shape, loss.item()) == ((0, 4, 3), (0, 3), 0)
    torch.testing.assert_close(quantizer.codebook.vectors, before)


def test_a_recipe_builds_every_variant() -> None:
    parser = ArgumentParser()
    parser.add_argument("--bottleneck", type=DiscreteBottleneck)

    def build(class_path: str, **init_args: object) -> DiscreteBottleneck:
        settings = {"class_path": class_path, "init_args": init_args}
        return parser.instantiate(parser.parse_object({"bottleneck": settings})).bottleneck

    plain = build("VectorQuantizer", dim=4, codebook_size=8)
    assert isinstance(plain.codebook, EMACodebook)
    full = build(
        "FactorizedQuantizer",
        features=16,
        quantizer={
            "class_path": "VectorQuantizer",
            "init_args": {
                "dim": 4,
                "codebook_size": 8,
                "codebook": {"class_path": "CosineCodebook", "init_args": {"decay": 0.9}},
                "care": [
                    {"class_path": "KMeansStart", "init_args": {"batches": 2}},
                    {"class_path": "RestartUnused", "init_args": {"after": 7}},
                ],
            },
        },
    )
    assert isinstance(full, FactorizedQuantizer)
    assert isinstance(full.quantizer.codebook, CosineCodebook)
    assert full.quantizer.codebook.decay == 0.9
    assert [vars(care) for care in full.quantizer.care] == [{"batches": 2, "iterations": 10}, {"after": 7}]
    learnt = build("VectorQuantizer", dim=4, codebook_size=8, codebook="LearntCodebook")
    assert isinstance(learnt.codebook, LearntCodebook)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="codebook_size"):
        VectorQuantizer(dim=4, codebook_size=0)
    with pytest.raises(ValueError, match="decay"):
        VectorQuantizer(dim=4, codebook_size=8, codebook=partial(EMACodebook, decay=1.5))
    quantizer = VectorQuantizer(dim=4, codebook_size=8, codebooks=2)
    with pytest.raises(ValueError, match=r"\[B, 8, \*grid\]"):
        quantizer(torch.randn(2, 4, 3))
    with pytest.raises(ValueError, match="2 codebooks"):
        quantizer.embed(torch.zeros(2, 3, dtype=torch.long))
    with pytest.raises(ValueError, match="codebook_size"):
        quantizer.embed(torch.full((2, 2), 8))
