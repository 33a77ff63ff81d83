from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from narrows.bottlenecks import Categorical
from narrows.errors import NarrowsError
from narrows.likelihoods import Bernoulli
from narrows.modalities.recipes import resolve_training
from narrows.models import Autoencoder
from narrows.networks import ConvEncoder, MLPDecoder, MLPEncoder
from narrows.recipe import find_recipe


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def by_hand(network: nn.Module, x: Tensor) -> Tensor:
    """x [B, inputs] through the affine maps of a network with ReLUs between them."""
    *hidden, last = [(layer.weight, layer.bias) for layer in network.modules() if isinstance(layer, nn.Linear)]
    for weight, bias in hidden:
        x = (x @ weight.T + bias).clamp_min(0)
    return x @ last[0].T + last[1]


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_encoder_is_affine_maps_and_relus_of_pixels_in_0_to_1(layers: int) -> None:
    encoder, pixels = MLPEncoder(3, 7, size=[4, 5], width=6, layers=layers), torch.rand(2, 3, 4, 5)
    torch.testing.assert_close(encoder(2 * pixels - 1), by_hand(encoder, pixels.reshape(2, 60)))
    assert len(list(encoder.parameters())) == 2 * (layers + 1)


def test_the_decoder_is_affine_maps_and_relus_to_an_image() -> None:
    decoder, z = MLPDecoder(7, 2, size=[4, 5], width=6), torch.randn(3, 7)
    torch.testing.assert_close(decoder(z), by_hand(decoder, z).reshape(3, 2, 4, 5))


def autoencoder(encoder: list[int], decoder: list[int]) -> Autoencoder:
    bottleneck = Categorical(dim=16, codebook_size=16, codebooks=16)
    networks = partial(MLPEncoder, size=encoder), partial(MLPDecoder, size=decoder)
    return Autoencoder((1, 28, 28), networks[0], bottleneck, networks[1], Bernoulli)


def test_an_autoencoder_of_binary_images_has_no_grid() -> None:
    model = autoencoder([28, 28], [28, 28])
    assert model.grid == ()
    x = torch.bernoulli(torch.rand(5, 1, 28, 28))
    codes = model.encode(x)
    assert codes.shape == (5, 16)
    assert torch.equal(model.decode(codes), model.reconstruct(x))
    assert model.sample(3).shape == (3, 1, 28, 28)


def test_a_wrong_size_is_named() -> None:
    with pytest.raises(NarrowsError, match=r"MLPEncoder.size is \[32, 32\], but the images .* are \[1, 1, 28, 28\]"):
        autoencoder([32, 32], [28, 28])
    with pytest.raises(NarrowsError, match=r"\(28, 28\) into \(32, 32\): set data.size"):
        autoencoder([28, 28], [32, 32])
    for size in ([], [28, 0]):
        with pytest.raises(NarrowsError, match="size must be such as"):
            MLPEncoder(1, 4, size)
    with pytest.raises(NarrowsError, match="layers at least 1"):
        MLPDecoder(4, 1, [28, 28], layers=0)


def test_an_encoder_with_a_grid_is_refused() -> None:
    with pytest.raises(NarrowsError, match=r"reads latents \[B, 64\], not \[1, 64, 2, 2\]"):
        Autoencoder(
            (1, 8, 8),
            partial(ConvEncoder, width=8),
            Categorical(dim=64, codebook_size=4),
            partial(MLPDecoder, size=[8, 8]),
            Bernoulli,
        )


def test_a_recipe_builds_it(tiny: Path) -> None:
    settings = find_recipe(str(tiny)).settings
    arguments = settings["model"]["init_args"]
    for part in ("Encoder", "Decoder"):
        arguments[part.lower()] = {"class_path": f"MLP{part}", "init_args": {"size": [8, 8], "width": 32}}
    model = resolve_training(settings).build().model((1, 8, 8))
    assert isinstance(model.encoder, MLPEncoder)
    assert model.grid == ()
