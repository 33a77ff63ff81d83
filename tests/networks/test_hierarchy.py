import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from narrows.networks.hierarchy import BottomUp, Branch, Head, ResidualBranch, Stem, Upsample


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]


def run(block: nn.Module, x: Tensor) -> Tensor:
    return block(x)


def test_the_stem_sees_three_by_three_pixels() -> None:
    stem = Stem(3, 5)
    x = torch.zeros(1, 3, 7, 7)
    x[0, :, 3, 3] = 1
    seen = stem(x)
    assert seen.shape == (1, 5, 7, 7)
    assert torch.equal(seen.abs().sum((0, 1)) > 0, nn.functional.pad(torch.ones(3, 3), (2, 2, 2, 2)) > 0)


def test_the_head_reads_each_position_after_a_gain_and_a_bias_of_each_channel() -> None:
    head, z = Head(4, 6), torch.randn(2, 4, 3, 3)
    nn.init.normal_(head.gain)
    nn.init.normal_(head.bias)
    scaled = head.gain.view(4) * z.movedim(1, -1) + head.bias.view(4)
    torch.testing.assert_close(head(z).movedim(1, -1), scaled @ head.read.weight.view(6, 4).T)


@pytest.mark.parametrize(("resolution", "window"), [(1, 1), (2, 1), (3, 3), (8, 3)])
def test_a_branch_looks_around_where_there_is_something_to_see(resolution: int, window: int) -> None:
    branch = Branch(6, 2, 5, resolution)
    assert [tuple(layer.weight.shape) for layer in convolutions(branch)] == [
        (2, 6, 1, 1),
        (2, 2, window, window),
        (2, 2, window, window),
        (5, 2, 1, 1),
    ]
    assert [type(layer) for layer in branch.layers] == [nn.GELU, nn.Conv2d] * 4
    assert branch(torch.randn(3, 6, resolution, resolution)).shape == (3, 5, resolution, resolution)


def test_the_gain_scales_what_a_residual_branch_adds() -> None:
    x, added = torch.randn(2, 4, 8, 8), []
    for gain in (1.0, 0.25, 0.0):
        torch.manual_seed(1)
        added.append(ResidualBranch(4, 2, 8, gain)(x) - x)
    torch.testing.assert_close(added[1], added[0] / 4, rtol=0, atol=1e-6)
    assert added[0].abs().max() > 0.01
    assert (added[2] == 0).all()


def test_activations_at_every_resolution() -> None:
    network = BottomUp(4, 2, {1: 1, 7: 2, 14: 3})
    blocks: list[nn.Module] = []

    def recorded(block: nn.Module, x: Tensor) -> Tensor:
        blocks.append(block)
        return block(x)

    activations = network(torch.randn(2, 4, 14, 14), recorded)
    assert {resolution: activation.shape for resolution, activation in activations.items()} == {
        resolution: (2, 4, resolution, resolution) for resolution in (14, 7, 1)
    }
    assert blocks == [module for module in network.modules() if isinstance(module, ResidualBranch)]
    assert len(blocks) == 6


def test_last_convolutions_start_at_one_over_the_root_of_the_number_of_blocks() -> None:
    """Weights are uniform up to 1 / sqrt(middle) before the scaling."""
    for block in BottomUp(256, 64, {4: 7, 8: 9}).modules():
        if isinstance(block, ResidualBranch):
            greatest = convolutions(block)[-1].weight.abs().max().item()
            assert 0.99 < greatest * math.sqrt(64) * 4 <= 1


def test_silent_blocks_leave_averages_over_squares() -> None:
    network, x = BottomUp(4, 2, {1: 1, 4: 1, 8: 1}), torch.randn(2, 4, 8, 8)
    for block in network.modules():
        if isinstance(block, ResidualBranch):
            nn.init.zeros_(convolutions(block)[-1].weight)
    activations = network(x, run)
    averages = {8: x, 4: x.view(2, 4, 4, 2, 4, 2).mean((3, 5)), 1: x.mean((2, 3), keepdim=True)}
    for resolution, average in averages.items():
        torch.testing.assert_close(activations[resolution], functional.gelu(average))


def test_upsampling_repeats_and_adds_the_bias() -> None:
    upsample, x = Upsample(3, 6), torch.randn(2, 3, 2, 2)
    nn.init.normal_(upsample.bias)
    repeated = x.repeat_interleave(3, 2).repeat_interleave(3, 3)
    torch.testing.assert_close(upsample(x), repeated + upsample.bias)
