import pytest
import torch

from narrows.networks.conv import ConvDecoder, ConvEncoder, ResidualBlock


@pytest.mark.parametrize("n", [1, 2, 3])
def test_every_downsampling_halves_and_every_upsampling_doubles(n: int) -> None:
    features = ConvEncoder(3, 5, width=8, downsamplings=n)(torch.zeros(2, 3, 16, 24))
    assert features.shape == (2, 5, 16 >> n, 24 >> n)
    assert ConvDecoder(5, 6, width=8, upsamplings=n)(features).shape == (2, 6, 16, 24)


def test_the_papers_encoder_has_the_papers_layers() -> None:
    """Two 4x4 stride-2 convolutions of 256 units, then (ReLU, 3x3, ReLU, 1x1) twice (section 4.1)."""
    shapes = [
        tuple(module.weight.shape) for module in ConvEncoder(3, 64).modules() if isinstance(module, torch.nn.Conv2d)
    ]
    block = [(256, 256, 3, 3), (256, 256, 1, 1)]
    assert shapes == [(256, 3, 4, 4), (256, 256, 4, 4), (256, 256, 3, 3), *block, *block, (64, 256, 1, 1)]


def test_a_residual_block_with_a_silent_branch_is_the_identity() -> None:
    block = ResidualBlock(4, 2)
    torch.nn.init.zeros_(block.branch[-1].weight)
    torch.nn.init.zeros_(block.branch[-1].bias)
    x = torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(block(x), x)
