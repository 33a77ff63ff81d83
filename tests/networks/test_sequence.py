from math import prod

import pytest
import torch
from torch import Tensor

from narrows.errors import NarrowsError
from narrows.networks import SequenceDecoder, SequenceEncoder
from narrows.networks.masking import zeroed

INPUTS, LATENTS = 5, 3
STRIDES = [(2,), (3,), (2, 2), (2, 3), (5, 2)]


def encoder(*strides: int) -> SequenceEncoder:
    torch.manual_seed(0)
    return SequenceEncoder(INPUTS, LATENTS, width=8, strides=strides, blocks=1).double()


def decoder(*strides: int) -> SequenceDecoder:
    torch.manual_seed(0)
    return SequenceDecoder(LATENTS, INPUTS, prod(strides), width=8, strides=strides, blocks=1).double()


def reach(outputs: Tensor, inputs: Tensor) -> tuple[int, int]:
    """The first and the last position of the inputs that the outputs depend on."""
    (gradient,) = torch.autograd.grad(outputs.square().sum(), inputs)
    seen = gradient.any(0).any(0).nonzero().flatten()
    return int(seen[0]), int(seen[-1])


@pytest.mark.parametrize("strides", STRIDES, ids=str)
def test_features_are_in_line_with_their_positions(strides: tuple[int, ...]) -> None:
    network = encoder(*strides)
    hop = network.hop
    x = torch.randn(4, INPUTS, 31 * hop).double().requires_grad_()
    features = network(x)
    assert features.shape == (4, LATENTS, 31)
    torch.testing.assert_close(network(x.roll(hop, 2))[..., 16], features[..., 15])
    first, last = reach(features[..., 15], x)
    assert 2 * abs((15 * hop - first) - (last - 16 * hop + 1)) <= 2 * hop


@pytest.mark.parametrize("strides", STRIDES, ids=str)
def test_outputs_are_in_line_with_their_latents(strides: tuple[int, ...]) -> None:
    network, hop = decoder(*strides), prod(strides)
    z = torch.randn(4, LATENTS, 31).double().requires_grad_()
    outputs = network(z)
    assert outputs.shape == (4, INPUTS, 31 * hop)
    torch.testing.assert_close(network(z.roll(1, 2))[..., 16 * hop], outputs[..., 15 * hop])
    first, last = reach(outputs[..., 15 * hop : 16 * hop], z)
    assert first + last == 30


def test_padding_affects_nothing_that_counts() -> None:
    """A sequence of 12 positions is encoded and decoded in a batch of 20 as it is alone."""
    read, write = encoder(2, 2), decoder(2, 2)
    x = torch.randn(2, INPUTS, 20).double()
    mask = torch.arange(20).expand(2, 20) < torch.tensor([[12], [20]])
    features = read(x, mask)
    torch.testing.assert_close(features[:1, :, :3], read(x[:1, :, :12]))
    latent_mask = mask.unflatten(1, (5, 4)).any(2)
    outputs = write(features, latent_mask)
    torch.testing.assert_close(outputs[:1, :, :12], write(features[:1, :, :3]))
    torch.testing.assert_close(outputs[1:], write(features[1:]))


def test_a_mask_without_padding_changes_nothing() -> None:
    x, everything = torch.randn(2, INPUTS, 12).double(), torch.ones(2, 12, dtype=torch.bool)
    model = encoder(2, 3)
    assert torch.equal(model(x, everything), model(x))
    assert zeroed(x, everything) is x
    assert torch.equal(zeroed(x, ~everything), torch.zeros_like(x))


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(NarrowsError, match="9 positions are not a multiple of 4"):
        encoder(2, 2)(torch.zeros(1, INPUTS, 9).double())
    with pytest.raises(NarrowsError, match=r"strides \[2\] make 2 positions per latent, but the encoder has 6"):
        SequenceDecoder(LATENTS, INPUTS, 6, strides=(2,))
    with pytest.raises(NarrowsError, match="at least one"):
        SequenceEncoder(INPUTS, LATENTS, strides=())
