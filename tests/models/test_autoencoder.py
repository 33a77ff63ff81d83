from functools import partial
from pathlib import Path

import pytest
import torch

import narrows
from narrows.bottlenecks import Categorical, Gaussian, Hierarchy, VectorQuantizer
from narrows.bottlenecks.posterior import Bottleneck
from narrows.data import Batch
from narrows.errors import NarrowsError
from narrows.likelihoods import DiscretizedLogistic, GaussianCalibrated
from narrows.models import Autoencoder
from narrows.networks import Head, Stem
from narrows.networks.conv import ConvDecoder, ConvEncoder
from narrows.networks.mlp import MLPDecoder, MLPEncoder


def autoencoder(bottleneck: Bottleneck, size: int = 8) -> Autoencoder:
    torch.manual_seed(0)
    encoder, decoder = partial(ConvEncoder, width=8, blocks=1), partial(ConvDecoder, width=8, blocks=1)
    return Autoencoder((3, size, size), encoder, bottleneck, decoder, DiscretizedLogistic).eval()


def images(n: int, size: int = 8) -> torch.Tensor:
    return torch.randint(256, (n, 3, size, size), generator=torch.Generator().manual_seed(1)) / 255


BOTTLENECKS = [
    Gaussian(channels=2),
    VectorQuantizer(dim=4, codebook_size=8),
    VectorQuantizer(dim=2, codebook_size=8, codebooks=3),
]


@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
def test_decoding_what_was_encoded_is_the_reconstruction(bottleneck: Bottleneck) -> None:
    model, x = autoencoder(bottleneck), images(4)
    torch.testing.assert_close(model.decode(model.encode(x)), model.reconstruct(x))
    assert model.reconstruct(x).shape == x.shape


def test_codes_are_integers_on_the_grid() -> None:
    x = images(4)
    assert autoencoder(BOTTLENECKS[1]).encode(x).shape == (4, 2, 2)
    assert autoencoder(BOTTLENECKS[2]).encode(x).shape == (4, 2, 2, 3)
    assert autoencoder(BOTTLENECKS[2]).encode(x).dtype == torch.int64
    assert autoencoder(BOTTLENECKS[2]).codes == (spec := autoencoder(BOTTLENECKS[2]).codes)
    assert (spec.grid, spec.codebooks, spec.codebook_size, spec.classes) == ((2, 2), 3, 8, 0)


def test_the_evidence_of_many_samples_is_that_of_each_alone() -> None:
    model, x = autoencoder(Gaussian(channels=2)), images(3)
    torch.manual_seed(2)
    posterior, evidence = model.evidence(Batch(x), lambda posterior: posterior.draw(5))
    torch.manual_seed(2)
    draw = model.posterior(x).draw(5)
    alone = torch.stack([model.observe(z).log_prob(x) for z in draw.z])
    torch.testing.assert_close(evidence.log_likelihood, alone)
    torch.testing.assert_close(evidence.rate, posterior.rate)


def test_a_decoder_that_learns_from_two_samples_has_their_gradient_and_the_evidence_of_all() -> None:
    model, x, found = autoencoder(Categorical(dim=2, codebook_size=4)), images(3), []
    for learnt in (None, 2):
        torch.manual_seed(2)
        _, evidence = model.evidence(Batch(x), lambda posterior, n=learnt: posterior.draw(5)._replace(learnt=n))
        gradient = torch.autograd.grad(evidence.log_likelihood[:2].sum(), list(model.decoder.parameters()))
        found.append((evidence, gradient))
    (whole, all_samples), (part, two_samples) = found
    torch.testing.assert_close(part.log_likelihood, whole.log_likelihood)
    torch.testing.assert_close(two_samples, all_samples)
    assert part.observation is None


@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
def test_an_interpolation_begins_and_ends_with_the_reconstructions(bottleneck: Bottleneck) -> None:
    model, x = autoencoder(bottleneck), images(4)
    path = model.interpolate(x[:2], x[2:], steps=5)
    assert path.shape == (2, 5, 3, 8, 8)
    torch.testing.assert_close(path[:, 0], model.reconstruct(x[:2]))
    torch.testing.assert_close(path[:, -1], model.reconstruct(x[2:]))


def test_latents_without_a_grid_are_interpolated_too() -> None:
    torch.manual_seed(0)
    encoder, decoder = partial(MLPEncoder, size=[4, 4], width=8), partial(MLPDecoder, size=[4, 4], width=8)
    model = Autoencoder((3, 4, 4), encoder, Gaussian(channels=2), decoder, DiscretizedLogistic).eval()
    x = images(4, size=4)
    path = model.interpolate(x[:2], x[2:], steps=3)
    assert path.shape == (2, 3, 3, 4, 4)
    torch.testing.assert_close(path[:, -1], model.reconstruct(x[2:]))


def test_a_size_the_networks_do_not_keep_is_refused_with_the_way_out() -> None:
    with pytest.raises(NarrowsError, match=r"\(30, 30\) into \(28, 28\): set data.size"):
        autoencoder(Gaussian(channels=2), size=30)


def test_a_prior_needs_discrete_codes() -> None:
    with pytest.raises(NarrowsError, match="Gaussian latents are continuous"):
        _ = autoencoder(Gaussian(channels=2)).codes


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 1, 16, 16), r"must have the shape \[B, 1, 8, 8\], not \[2, 1, 16, 16\]"),
        (torch.zeros(2, 3, 8, 8), "must have the shape"),
        (torch.zeros(1, 8, 8), "must have the shape"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), "must be floats in .* not torch.uint8: scale integer levels"),
        (torch.full((2, 1, 8, 8), 255.0), "ranges from 255 to 255"),
        (torch.full((2, 1, 8, 8), -0.5), r"must be in \[0, 1\]"),
        (torch.full((2, 1, 8, 8), float("nan")), "look for NaN"),
        (torch.full((2, 1, 8, 8), float("inf")), r"must be in \[0, 1\]"),
    ],
)
def test_data_that_are_no_images_of_the_model_are_refused(trained: Path, x: torch.Tensor, message: str) -> None:
    model = narrows.load(trained)
    for method in (model.encode, model.reconstruct):
        with pytest.raises(narrows.NarrowsError, match=message):
            method(x)
    with pytest.raises(narrows.NarrowsError, match=message):
        model.interpolate(torch.zeros(2, 1, 8, 8), x, 3)


def test_other_precisions_and_types_are_read_or_refused_in_words(trained: Path) -> None:
    model = narrows.load(trained)
    x = torch.rand(2, 1, 8, 8)
    codes = model.encode(x)
    assert torch.equal(model.encode(x.double()), codes)
    assert model.double().encode(x).shape == codes.shape
    with pytest.raises(narrows.NarrowsError, match=r"expected a torch\.Tensor, not a ndarray"):
        model.encode(x.numpy())  # type: ignore[arg-type]
    with pytest.raises(narrows.NarrowsError, match=r"codes must have the shape \[B, 4, 4\], not \[4, 4\]"):
        model.decode(codes[0])
    with pytest.raises(narrows.NarrowsError, match="codes must be integers"):
        model.decode(codes.float())
    with pytest.raises(narrows.NarrowsError, match="n is 0: it must be at least 1"):
        model.sample(0)


def test_loading_leaves_the_callers_random_numbers_alone(trained: Path) -> None:
    before = torch.get_rng_state()
    narrows.load(trained)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "model",
    [
        autoencoder(Gaussian(channels=2)),
        autoencoder(VectorQuantizer(dim=4, codebook_size=8)),
        Autoencoder((3, 8, 8), Stem, Hierarchy(8, 2, 4, {4: 1, 8: 1}), Head, GaussianCalibrated),
    ],
)
def test_weights_and_features_have_channels_last(model: Autoencoder) -> None:
    kernels = [
        each.weight for each in model.modules() if isinstance(each, torch.nn.Conv2d) and each.kernel_size != (1, 1)
    ]
    assert kernels
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
    features = model.features(images(4))
    assert features.is_contiguous(memory_format=torch.channels_last)
    assert not features.is_contiguous()
