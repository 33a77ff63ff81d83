"""Finite scalar quantisation against enumeration of all codes and a scalar-by-scalar reading of the paper."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor

from narrows.bottlenecks import usage
from narrows.bottlenecks.scalar import FSQ
from narrows.modalities.recipes import resolve_training
from narrows.recipe import find_recipe

PUBLISHED = {8: ([8, 6, 5], 240), 10: ([8, 5, 5, 5], 1000), 12: ([7, 5, 5, 5, 5], 4375), 14: ([8, 8, 8, 6, 5], 15360)}
LEVELS = [[8, 6, 5], [7, 5, 5, 5, 5], [3], [2, 4], [1000, 2, 999]]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def reference(value: float, levels: int) -> int:
    """The level of one feature, an integer from -floor(L / 2) on."""
    half = (levels - 1) * 1.001 / 2
    offset = 0.5 if levels % 2 == 0 else 0.0
    shift = math.atanh(offset / half) if levels > 2 else 0.0
    return round(half * math.tanh(value + shift) - offset)


def inverse(z: Tensor, levels: list[int]) -> Tensor:
    """Features [n, C] that are bounded to z [n, C], but for extremes, which are bounded to a value nearby."""
    count = torch.tensor(levels, dtype=torch.float64)
    half, offset = (count - 1) * 1.001 / 2, (1 - count % 2) / 2
    shift = torch.where(count > 2, torch.atanh(offset / half), 0.0)
    return (torch.atanh((z.double() * (count // 2) + offset) / half) - shift).float()


@pytest.mark.parametrize("levels", LEVELS[:4])
def test_every_code_comes_back_from_its_latents_and_from_features_there(levels: list[int]) -> None:
    quantizer = FSQ(levels)
    codes = torch.arange(math.prod(levels))
    z = quantizer.embed(codes)
    assert len(z.unique(dim=0)) == len(codes)
    posterior = quantizer(inverse(z, levels))
    assert torch.equal(posterior.codes, codes)
    assert torch.equal(posterior.z, z)


@pytest.mark.parametrize("grid", [(), (7,), (3, 5), (2, 3, 4)])
def test_latents_are_those_of_the_codes_on_any_grid(grid: tuple[int, ...]) -> None:
    quantizer = FSQ([8, 5, 2, 31])
    posterior = quantizer(3 * torch.randn(6, 4, *grid))
    assert posterior.codes.shape == (6, *grid)
    assert torch.equal(quantizer.embed(posterior.codes), posterior.z)
    assert quantizer.sample_prior(6, grid).shape == posterior.mode.shape


@pytest.mark.parametrize("levels", LEVELS)
def test_codes_and_latents_are_those_of_a_scalar_at_a_time(levels: list[int]) -> None:
    features = 2 * torch.randn(200, len(levels))
    posterior = FSQ(levels)(features)
    for row, z, code in zip(features.tolist(), posterior.z.tolist(), posterior.codes.tolist(), strict=True):
        chosen = [reference(value, count) for value, count in zip(row, levels, strict=True)]
        expected, place = 0, 1
        for level, count in zip(chosen, levels, strict=True):
            expected, place = expected + place * (level + count // 2), place * count
        assert code == expected
        assert z == pytest.approx([level / (count // 2) for level, count in zip(chosen, levels, strict=True)])


@pytest.mark.parametrize("levels", [2, 3, 4, 5, 8, 255, 256, 999, 1000])
def test_every_level_is_reached_and_none_beyond(levels: int) -> None:
    extreme = torch.tensor([-math.inf, -1e30, 0.0, 1e30, math.inf])
    codes = FSQ([levels])(torch.cat([torch.linspace(-5, 5, 40_000), extreme]).unsqueeze(1)).codes
    assert torch.equal(codes.unique(), torch.arange(levels))
    assert codes[-5:].tolist() == [0, 0, levels // 2, levels - 1, levels - 1]  # 0 is at 0; at a threshold if 2 levels


def test_the_two_levels_of_a_binary_channel_part_at_zero() -> None:
    features = torch.tensor([[-1e-3], [1e-3]], requires_grad=True)
    posterior = FSQ([2])(features)
    assert posterior.codes.tolist() == [0, 1]
    (gradient,) = torch.autograd.grad(posterior.z.sum(), features)
    torch.testing.assert_close(gradient, torch.full((2, 1), 0.5005))


def test_the_gradient_is_that_of_the_bounded_value() -> None:
    levels = torch.tensor([8, 5, 3, 4])
    features = (2 * torch.randn(50, 4, dtype=torch.float32)).requires_grad_()
    upstream = torch.randn(50, 4)
    (found,) = torch.autograd.grad(FSQ(levels.tolist())(features).z, features, upstream)

    half, offset = (levels - 1) * (1.001 / 2), (1 - levels % 2) / 2
    slope = half * (1 - torch.tanh(features + torch.atanh(offset / half)) ** 2) / (levels // 2)
    torch.testing.assert_close(found, upstream * slope.detach(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("bits", "published"), PUBLISHED.items())
def test_published_levels_have_about_the_size_of_their_bits(bits: int, published: tuple[list[int], int]) -> None:
    levels, size = published
    quantizer = FSQ(levels)
    assert (quantizer.codebook_size, quantizer.codebooks) == (size, 1)
    assert quantizer.features == quantizer.channels == len(levels)
    assert round(math.log2(size)) == bits


def test_the_posterior_is_deterministic_without_losses_and_its_rate_that_of_a_uniform_prior() -> None:
    posterior = FSQ([8, 6, 5])(torch.randn(6, 3, 3, 5))
    nats = torch.full((6,), 15 * math.log(240))
    torch.testing.assert_close(posterior.rate, nats)
    z, log_q, log_p = posterior.draw(4)[:3]
    assert torch.equal(z, torch.stack([posterior.mode] * 4))
    assert torch.equal(log_q, torch.zeros(4, 6))
    torch.testing.assert_close(log_p, -nats.expand(4, 6))
    assert posterior.losses == {}


def test_statistics_of_a_known_histogram() -> None:
    quantizer = FSQ([3, 4])
    codes = torch.tensor([0, 0, 0, 11])
    statistics = quantizer(inverse(quantizer.embed(codes), [3, 4])).statistics
    assert statistics["perplexity"].item() == pytest.approx(math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)))
    assert statistics["usage"].item() == pytest.approx(2 / 12)


@pytest.mark.parametrize("tokens", [3, 11, 12, 13, 500])
def test_statistics_are_those_of_the_histogram_however_large_the_codebook(tokens: int) -> None:
    posterior = FSQ([3, 4], codebooks=2)(torch.randn(tokens, 4) * torch.tensor([0.1, 0.1, 2.0, 2.0]))
    expected = usage.usage_statistics(usage.count(posterior.codes, 12))
    assert posterior.statistics.keys() == expected.keys()
    torch.testing.assert_close(posterior.statistics, expected)


def test_a_codebook_beyond_any_memory_is_counted() -> None:
    quantizer = FSQ([2] * 62)
    codes = torch.tensor([2**62 - 1, 0, 2**62 - 1, 5])
    posterior = quantizer(9 * quantizer.embed(codes))
    assert torch.equal(posterior.codes, codes)
    assert posterior.statistics["perplexity"].item() == pytest.approx(math.exp(1.5 * math.log(2)))
    assert posterior.statistics["usage"].item() == pytest.approx(3 / 2**62)
    assert FSQ([5, 4], codebooks=2)(torch.zeros(0, 4)).statistics["usage"] == 0


@pytest.mark.parametrize("grid", [(), (3, 5)])
def test_each_group_of_channels_is_quantised_as_if_alone(grid: tuple[int, ...]) -> None:
    levels = [8, 5, 2]
    quantizer, alone = FSQ(levels, codebooks=4), FSQ(levels)
    assert quantizer.features == quantizer.channels == 12
    features = 3 * torch.randn(6, 12, *grid)
    posterior = quantizer(features)
    parts = [alone(part) for part in features.chunk(4, 1)]
    assert torch.equal(posterior.codes, torch.stack([part.codes for part in parts], -1))
    assert torch.equal(posterior.z, torch.cat([part.z for part in parts], 1))
    assert torch.equal(quantizer.embed(posterior.codes), posterior.z)
    assert quantizer.sample_prior(6, grid).shape == posterior.z.shape
    torch.testing.assert_close(posterior.rate, torch.full((6,), 4 * math.prod(grid) * math.log(80)))


def test_prior_samples_are_uniform_over_the_codes() -> None:
    quantizer = FSQ([3, 4])
    drawn = quantizer.sample_prior(12_000, ())
    counts = quantizer(inverse(drawn, [3, 4])).codes.bincount(minlength=12)
    assert ((counts - 1000).abs() < 5 * math.sqrt(1000)).all()


@pytest.mark.parametrize("quantizer", [FSQ([8, 5, 5, 5]), FSQ([8, 5], codebooks=2)])
def test_latents_are_laid_out_as_the_features(quantizer: FSQ) -> None:
    features = torch.randn(2, 4, 3, 5)
    assert quantizer(features).z.is_contiguous()
    last = quantizer(features.to(memory_format=torch.channels_last))
    assert last.z.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(last.z, quantizer(features).z)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_all_is_computed_in_float32_whatever_the_features(dtype: torch.dtype) -> None:
    levels = [8, 8, 8, 6, 5]
    quantizer = FSQ(levels).to(dtype)
    codes = torch.arange(quantizer.codebook_size)
    features = inverse(quantizer.embed(codes), levels).to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        posterior = quantizer(features)
    assert torch.equal(posterior.codes, codes)
    assert posterior.z.dtype == dtype
    assert torch.equal(posterior.z, quantizer.embed(codes).to(dtype))
    (gradient,) = torch.autograd.grad(posterior.z.sum(), features)
    assert gradient.dtype == dtype


def test_a_feature_that_is_not_a_number_shows_in_the_latents_and_still_has_a_code() -> None:
    posterior = FSQ([4, 3])(torch.tensor([[math.nan, 0.0], [0.0, 0.0]]))
    assert 0 <= posterior.codes[0] < 12
    assert posterior.z.isnan().tolist() == [[True, False], [False, False]]


def test_a_recipe_builds_and_trains_it(tiny: Path) -> None:
    settings = find_recipe(str(tiny)).settings
    settings["model"]["init_args"]["bottleneck"] = {"class_path": "FSQ", "init_args": {"levels": [8, 5, 5, 5]}}
    resolved = resolve_training(settings)
    assert resolve_training(yaml.safe_load(resolved.yaml)).yaml == resolved.yaml
    model = resolved.build().model((1, 8, 8))
    assert isinstance(model.bottleneck, FSQ)
    assert (model.codes.codebooks, model.codes.codebook_size) == (1, 1000)

    x = torch.randint(256, (4, 1, 8, 8)) / 255
    assert torch.equal(model.decode(model.encode(x)), model.reconstruct(x))
    model.observe(model.posterior(x).mode).log_prob(x).sum().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in model.encoder.parameters())


def test_bad_input_is_named() -> None:
    for levels in ([], [8, 1], [0], [1001]):
        with pytest.raises(ValueError, match="levels must be a number from 2 to 1000 per channel"):
            FSQ(levels)
    quantizer = FSQ([8, 5, 5])
    for shape in ((2, 4, 3), (3,)):
        with pytest.raises(ValueError, match=r"\[B, 3, \*grid\] for 1 codebook\(s\) of 3 levels"):
            quantizer(torch.randn(shape))
    with pytest.raises(ValueError, match="codebooks must be at least 1, not 0"):
        FSQ([8, 5, 5], codebooks=0)
    with pytest.raises(ValueError, match=r"must be below 2\^63: use fewer, and more codebooks"):
        FSQ([2] * 63)
    with pytest.raises(ValueError, match="codes of 2 codebooks"):
        FSQ([8, 5, 5], codebooks=2).embed(torch.zeros(4, 3, dtype=torch.long))
    for code in (-1, 200):
        with pytest.raises(ValueError, match=r"codes must be in \[0, 200\)"):
            quantizer.embed(torch.tensor([0, code]))
