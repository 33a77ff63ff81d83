from typing import Any

import pytest
import torch

from narrows.priors.pixelcnn import GatedPixelCNN
from narrows.priors.prior import CodeSpec
from tests.priors.helpers import codes_of, feature_influence, stepped

K = 5


def build(
    grid: tuple[int, ...] = (4, 5), codebooks: int = 1, classes: int = 0, channels: int = 0, **settings: Any
) -> GatedPixelCNN:
    """A small prior in double precision in which conditions matter and no position has only dead ReLUs."""
    torch.manual_seed(0)
    prior = GatedPixelCNN(
        CodeSpec(grid, codebooks, K, classes, channels), **{"layers": 2, "width": 16, "head_width": 32, **settings}
    ).double()
    torch.nn.init.normal_(prior.network.condition.weight)
    if prior.network.local is not None:
        torch.nn.init.normal_(prior.network.local.weight)
    return prior


SHAPES = [
    # grid, codebooks, layers, kernel_size, first_kernel_size, reach
    ((6, 7), 1, 1, 3, 3, 2),
    ((5, 8), 2, 2, 3, 3, 3),
    ((5, 4), 3, 2, 3, 5, 4),
    ((6, 7), 1, 1, 5, 3, 3),
]


@pytest.mark.parametrize(("grid", "codebooks", "layers", "kernel_size", "first_kernel_size", "reach"), SHAPES)
def test_logits_depend_on_earlier_codes_of_the_window_and_on_nothing_else(
    grid: tuple[int, int], codebooks: int, layers: int, kernel_size: int, first_kernel_size: int, reach: int
) -> None:
    prior = build(grid, codebooks, layers=layers, kernel_size=kernel_size, first_kernel_size=first_kernel_size)
    assert prior.network.reach == reach
    codes = codes_of(prior, 1).flatten().repeat(prior.length + 1, 1)
    n = torch.arange(prior.length)
    codes[n, n] = (codes[n, n] + 1) % K  # example n has another code n; the last example is unchanged
    with torch.no_grad():
        logits = prior.logits(codes.view(-1, *prior.code_shape)).view(-1, prior.length, K)
    influence = (logits[:-1] - logits[-1]).abs().amax(-1) > 1e-12

    row, column, code = torch.cartesian_prod(*map(torch.arange, (*grid, codebooks))).unbind(1)
    down, right = row - row[:, None], column - column[:, None]
    above = (down >= 1) & (down <= reach) & (right.abs() <= reach)
    left = (down == 0) & (right >= 1) & (right <= reach)
    same = (down == 0) & (right == 0) & (code > code[:, None])
    assert torch.equal(influence, above | left | same)


@pytest.mark.parametrize(("layers", "kernel_size", "reach"), [(1, 3, 0), (2, 3, 1), (3, 3, 2), (2, 5, 2)])
def test_logits_depend_on_the_features_of_a_window_and_on_nothing_else(
    layers: int, kernel_size: int, reach: int
) -> None:
    """The position's row, `reach` rows above, and in all of them `reach` columns to either side."""
    prior = build((4, 6), 2, channels=2, layers=layers, kernel_size=kernel_size)
    row, column = torch.cartesian_prod(*map(torch.arange, prior.grid)).unbind(1)
    down, right = row - row[:, None], column - column[:, None]
    expected = (down >= 0) & (down <= reach) & (right.abs() <= reach)
    assert torch.equal(feature_influence(prior), expected.unsqueeze(2).expand(-1, -1, 2))


@pytest.mark.parametrize(("grid", "codebooks", "layers", "kernel_size", "first_kernel_size", "reach"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_steps_give_the_logits_of_the_parallel_pass(
    grid: tuple[int, int],
    codebooks: int,
    layers: int,
    kernel_size: int,
    first_kernel_size: int,
    reach: int,
    dtype: torch.dtype,
) -> None:
    settings = {"layers": layers, "kernel_size": kernel_size, "first_kernel_size": first_kernel_size}
    prior = build(grid, codebooks, classes=3, **settings).to(dtype)
    codes, labels = codes_of(prior, 3), torch.tensor([2, 0, 1])
    logits = stepped(prior, codes, labels)
    expected = prior.logits(codes, labels).detach().view_as(logits)
    assert logits.dtype == dtype
    assert not logits.requires_grad
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


def test_steps_ignore_dropout() -> None:
    prior = build(dropout=0.5)
    codes = codes_of(prior, 2)
    logits = stepped(prior, codes)
    torch.testing.assert_close(logits, prior.eval().logits(codes).detach().view_as(logits))
    assert not torch.allclose(prior.train().logits(codes), prior.eval().logits(codes))


def test_a_new_prior_is_close_to_uniform_and_deep_vertical_signals_survive() -> None:
    torch.manual_seed(0)
    prior = GatedPixelCNN(CodeSpec((8, 8), 1, 64, 0))
    codes = torch.randint(64, (4, 8, 8))
    bits = -prior.log_prob(codes) / (64 * torch.tensor(2.0).log())
    assert ((bits - 6).abs() < 0.3).all()
    network = prior.network
    embedded = network.embed(codes.unsqueeze(-1)).permute(0, 3, 1, 2)
    vertical = network.above(torch.nn.functional.pad(embedded, (0, 0, 3, -1)))
    for layer, condition in zip(network.layers, network.conditions(torch.zeros(4).long()), strict=True):
        vertical, _, _ = layer(vertical, embedded, condition)
    assert 0.03 < vertical[:, :, 1:].std() < 1


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got \(16,\): use WaveNetPrior or TransformerPrior"):
        build(grid=(16,))
    with pytest.raises(ValueError, match=r"got \(2, 3, 4\): use TransformerPrior"):
        build(grid=(2, 3, 4))
    with pytest.raises(ValueError, match="first_kernel_size must be odd"):
        build(first_kernel_size=4)
    with pytest.raises(ValueError, match="layers, width and head_width"):
        build(layers=0)
    with pytest.raises(ValueError, match="codebooks and codebook_size must be at least 1"):
        build(codebooks=0)
