"""The residual quantiser against a vector quantiser, a plain loop over its stages, and losses worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from narrows.bottlenecks.codebook import EMACodebook, KMeansStart, LearntCodebook, RestartUnused
from narrows.bottlenecks.residual import ResidualQuantizer
from narrows.bottlenecks.vector import VectorQuantizer
from narrows.modalities.recipes import resolve_training
from narrows.recipe import find_recipe

CODEBOOKS = [EMACodebook, LearntCodebook]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def scattered(depth: int, **settings: Any) -> ResidualQuantizer:
    """Stages whose vectors spread as far as the features of the tests, less from one to the next."""
    quantizer = ResidualQuantizer(partial(VectorQuantizer, **settings), depth)
    for number, stage in enumerate(quantizer.stages):
        stage.codebook.vectors.data.copy_(torch.randn_like(stage.codebook.vectors) / 2**number)
    return quantizer


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("grid", [(), (7,), (3, 5)])
def test_each_stage_codes_what_the_ones_before_left_over(grid: tuple[int, ...]) -> None:
    quantizer = scattered(3, dim=4, codebook_size=11).eval()
    features = torch.randn(6, 4, *grid)
    posterior = quantizer(features)
    assert posterior.codes.shape == (6, *grid, 3)

    residual, total = features.movedim(1, -1), torch.zeros(6, *grid, 4)
    for number, stage in enumerate(quantizer.stages):
        distances = (residual.unsqueeze(-2) - stage.codebook.vectors[0]).square().sum(-1)
        assert torch.equal(posterior.codes[..., number], distances.argmin(-1))
        chosen = stage.codebook.vectors[0][distances.argmin(-1)]
        residual, total = residual - chosen, total + chosen
    assert torch.equal(posterior.z, total.movedim(-1, 1))
    torch.testing.assert_close(features - posterior.z, residual.movedim(-1, 1))


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_codes_and_latents_are_a_round_trip(depth: int) -> None:
    quantizer = scattered(depth, dim=4, codebook_size=11).eval()
    posterior = quantizer(torch.randn(6, 4, 3, 5))
    assert posterior.codes.shape == (6, 3, 5) + ((depth,) if depth > 1 else ())
    assert torch.equal(quantizer.embed(posterior.codes), posterior.mode)
    assert quantizer.sample_prior(2, (3, 5)).shape == (2, 4, 3, 5)

    quantizer.bfloat16()
    posterior = quantizer(torch.randn(6, 4, 3, 5, dtype=torch.bfloat16))
    assert posterior.z.dtype == torch.bfloat16
    assert torch.equal(quantizer.embed(posterior.codes), posterior.z)


@pytest.mark.parametrize("codebook", CODEBOOKS)
def test_one_stage_is_a_vector_quantizer(codebook: Callable[[int, int, int], Any]) -> None:
    settings = {"dim": 3, "codebook_size": 16, "codebook": codebook, "care": [KMeansStart(2), RestartUnused(after=2)]}
    plain = VectorQuantizer(**settings)
    residual = ResidualQuantizer(partial(VectorQuantizer, **settings), depth=1)
    residual.stages[0].load_state_dict(plain.state_dict())
    for _ in range(5):
        batch, upstream = torch.randn(2, 8, 3, 7)
        found = []
        for quantizer in (plain, residual):
            features = batch.clone().requires_grad_()
            z, codes, loss = posterior = quantizer(features)
            ((z * upstream).sum() + loss).backward()
            learnt = [parameter.grad for parameter in quantizer.parameters()]
            figures = [*posterior.losses.values(), *posterior.statistics.values(), posterior.rate]
            found.append([z, codes, loss, *figures, features.grad, *learnt])
            for parameter in quantizer.parameters():
                parameter.data -= 0.1 * parameter.grad
                parameter.grad = None
        assert all(torch.equal(first, second) for first, second in zip(*found, strict=True))
    assert same(plain.state_dict(), residual.stages[0].state_dict())


def test_distortion_never_grows_with_depth() -> None:
    # A stage whose vectors are the means of their residuals takes away their squared length; k-means on fixed data.
    make = partial(VectorQuantizer, dim=4, codebook_size=6, codebook=LearntCodebook, care=[KMeansStart()])
    features = torch.randn(200, 4).exp()
    quantizer = ResidualQuantizer(make, depth=6)
    quantizer(features)
    codes = quantizer.eval()(features).codes
    parts = [stage.embed(codes[:, number]) for number, stage in enumerate(quantizer.stages)]
    totals = torch.stack(parts).cumsum(0)
    distortion = [(features - total).square().sum(1).mean().item() for total in totals]
    assert distortion == sorted(distortion, reverse=True)
    assert distortion[-1] < 0.1 * distortion[0]


def test_the_features_receive_the_latents_gradient_once_and_every_stages_commitment() -> None:
    quantizer = scattered(3, dim=4, codebook_size=16, commitment=0.7).eval()
    features = torch.randn(5, 4, 6, requires_grad=True)
    posterior = quantizer(features)
    upstream = torch.randn_like(posterior.z)
    (found,) = torch.autograd.grad(posterior.z, features, upstream, retain_graph=True)
    assert torch.equal(found, upstream)

    (found,) = torch.autograd.grad(posterior.losses["commitment"], features)
    left_over, expected = features.detach(), torch.zeros_like(features)
    for stage, codes in zip(quantizer.stages, posterior.codes.unbind(-1), strict=True):
        left_over = left_over - stage.embed(codes)
        expected += 0.7 * 2 * left_over / (5 * 6)
    torch.testing.assert_close(found, expected)


def test_losses_and_their_gradients_by_hand() -> None:
    # 9 -> 10, left over -1 -> -1, left over 0; 3 -> 0, left over 3 -> 2, left over 1.
    quantizer = ResidualQuantizer(
        partial(VectorQuantizer, dim=1, codebook_size=2, commitment=0.5, codebook=LearntCodebook, care=[]), depth=2
    )
    for stage, vectors in zip(quantizer.stages, ([0.0, 10], [-1.0, 2]), strict=True):
        stage.codebook.vectors.data.copy_(torch.tensor(vectors).view(1, 2, 1))
    features = torch.tensor([[9.0], [3.0]], requires_grad=True)
    posterior = quantizer(features)
    assert posterior.z.tolist() == [[9], [2]]
    assert posterior.codes.tolist() == [[1, 0], [0, 1]]
    # First stage (1 + 9) / 2, second (0 + 1) / 2.
    assert {name: loss.item() for name, loss in posterior.losses.items()} == {"codebook": 5.5, "commitment": 2.75}
    assert {name: figure.item() for name, figure in posterior.statistics.items()} == pytest.approx(
        {"perplexity": 2, "usage": 1, "nonfinite": 0}
    )

    _, _, loss = posterior
    loss.backward()
    assert features.grad is not None
    assert features.grad.tolist() == [[-0.5 + 0], [1.5 + 0.5]]
    gradients = [stage.codebook.vectors.grad.flatten().tolist() for stage in quantizer.stages]
    assert gradients == [[-3, 1], [0, -1]]


def test_the_rate_counts_every_stage() -> None:
    posterior = scattered(3, dim=2, codebook_size=11)(torch.randn(6, 2, 3, 5))
    torch.testing.assert_close(posterior.rate, torch.full((6,), 15 * 3 * math.log(11)))


@pytest.mark.parametrize("codebook", CODEBOOKS)
def test_a_saved_quantizer_resumes_bit_for_bit(codebook: Callable[[int, int, int], Any]) -> None:
    make = partial(
        VectorQuantizer, dim=2, codebook_size=20, codebook=codebook, care=[KMeansStart(2), RestartUnused(after=2)]
    )
    batches = torch.randn(8, 30, 2)
    whole, resumed = ResidualQuantizer(make, depth=3), ResidualQuantizer(make, depth=3)
    for batch in batches[:4]:
        whole(batch)
    resumed.load_state_dict(snapshot(whole))
    for batch in batches[4:]:
        assert torch.equal(whole(batch).codes, resumed(batch).codes)
    assert same(snapshot(whole), snapshot(resumed))


@pytest.mark.parametrize("codebook", CODEBOOKS)
def test_neither_eval_mode_nor_freezing_lets_a_codebook_change(codebook: Callable[[int, int, int], Any]) -> None:
    make = partial(
        VectorQuantizer, dim=4, codebook_size=8, codebook=codebook, care=[KMeansStart(), RestartUnused(after=1)]
    )
    quantizer, features = ResidualQuantizer(make, depth=3), torch.randn(3, 4, 5, requires_grad=True)
    before = snapshot(quantizer)
    quantizer.eval()(features)
    assert same(before, snapshot(quantizer))

    quantizer.train()(features)
    for number, stage in enumerate(quantizer.stages):
        assert not torch.equal(stage.codebook.vectors, before[f"stages.{number}.codebook.vectors"])

    quantizer.freeze()
    before = snapshot(quantizer)
    optimiser = torch.optim.SGD([features, *quantizer.parameters()], lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(2):
        _, _, loss = quantizer.train()(features)
        loss.backward()
        optimiser.step()
    assert same(before, snapshot(quantizer))


def test_under_autocast_all_is_computed_in_float32() -> None:
    quantizer = scattered(4, dim=8, codebook_size=100).eval()
    features = torch.randn(50, 8, 20, dtype=torch.bfloat16).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z, codes, loss = quantizer(features)
    expected = quantizer(features.detach().float())
    assert torch.equal(codes, expected.codes)
    assert torch.equal(z, expected.z.bfloat16())
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected.losses["commitment"])
    (z.sum() + loss).backward()
    assert features.grad is not None
    assert features.grad.dtype == torch.bfloat16


def test_latents_are_laid_out_as_the_features() -> None:
    quantizer, features = scattered(3, dim=4, codebook_size=11).eval(), torch.randn(2, 4, 3, 5)
    assert quantizer(features).z.is_contiguous()
    last = quantizer(features.to(memory_format=torch.channels_last))
    assert last.z.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(last.z, quantizer(features).z)


def test_a_recipe_builds_and_trains_it(tiny: Path) -> None:
    settings = find_recipe(str(tiny)).settings
    stage = settings["model"]["init_args"]["bottleneck"]
    stage["init_args"]["codebook"] = {"class_path": "EMACodebook", "init_args": {"decay": 0.9}}
    settings["model"]["init_args"]["bottleneck"] = {
        "class_path": "ResidualQuantizer",
        "init_args": {"quantizer": stage, "depth": 3},
    }
    resolved = resolve_training(settings)
    assert resolve_training(yaml.safe_load(resolved.yaml)).yaml == resolved.yaml
    model = resolved.build().model((1, 8, 8))
    quantizer = model.bottleneck
    assert isinstance(quantizer, ResidualQuantizer)
    assert (model.codes.codebooks, model.codes.codebook_size) == (3, 8)
    first, second, _ = (stage.codebook for stage in quantizer.stages)
    assert isinstance(second, EMACodebook)
    assert second.decay == 0.9
    assert not torch.equal(first.vectors, second.vectors)

    x = torch.randint(256, (4, 1, 8, 8)) / 255
    model.observe(model.posterior(x).mode).log_prob(x).sum().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in model.encoder.parameters())
    model.eval()
    assert torch.equal(model.decode(model.encode(x)), model.reconstruct(x))


def test_bad_input_is_named() -> None:
    make = partial(VectorQuantizer, dim=4, codebook_size=8)
    with pytest.raises(ValueError, match="depth must be at least 1, not 0"):
        ResidualQuantizer(make, depth=0)
    with pytest.raises(ValueError, match="1 codebook, not 2: set depth"):
        ResidualQuantizer(partial(make, codebooks=2), depth=2)
    quantizer = ResidualQuantizer(make, depth=2)
    with pytest.raises(ValueError, match=r"\[B, 4, \*grid\]"):
        quantizer(torch.randn(2, 3, 4))
    with pytest.raises(ValueError, match="2 codebooks"):
        quantizer.embed(torch.zeros(2, 3, dtype=torch.long))
    with pytest.raises(ValueError, match="codebook_size"):
        quantizer.embed(torch.full((2, 2), 8))
