import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import narrows
from narrows.bottlenecks import Categorical
from narrows.data.pixels import to_unit
from narrows.errors import NarrowsError
from narrows.evaluation import measure, measure_prior
from narrows.likelihoods import DiscretizedLogistic
from narrows.modalities.images.images import Images, open_images
from narrows.modalities.images.modality import MODALITY
from narrows.modalities.images.settings import ImageSettings
from narrows.models import Autoencoder
from narrows.networks.mlp import MLPDecoder, MLPEncoder


@pytest.fixture(scope="module")
def images() -> Images:
    return open_images(ImageSettings()).test.subset(30)


def test_the_figures_are_those_of_each_image_alone(trained: Path, images: Images) -> None:
    model = narrows.load(trained)
    assert images.labels is not None
    x, labels = to_unit(torch.from_numpy(images.pixels)), torch.from_numpy(images.labels)
    measured = measure(model, images, figures=partial(MODALITY.figures, spec=model.spec), batch_size=7)
    with torch.no_grad():
        codes = model.encode(x)
        distortion = -model.observe(model.bottleneck.embed(codes)).log_prob(x).mean() / (64 * math.log(2))
        rate = -model.prior.log_prob(codes, labels).mean() / (64 * math.log(2))
    assert measured.figures["distortion_bits_per_dim"] == pytest.approx(distortion.item(), rel=1e-5)
    assert measured.figures["prior_rate_bits_per_dim"] == pytest.approx(rate.item(), rel=1e-5)
    assert measured.figures["mse"] == pytest.approx((model.decode(codes) - x).square().mean().item(), rel=1e-5)
    assert measured.counts is not None
    np.testing.assert_array_equal(measured.counts[0].numpy(), np.bincount(codes.flatten().numpy(), minlength=8))
    told = measure_prior(model.prior, codes.numpy().astype(np.uint8), images.labels, 64, batch_size=7)
    assert told["rate_bits_per_dim"] == pytest.approx(rate.item(), rel=1e-5)
    assert told["bits_per_code"] == pytest.approx(rate.item() * 64 / 16, rel=1e-5)


def test_measuring_leaves_training_alone(trained: Path, images: Images) -> None:
    model = narrows.load(trained).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    measure(model, images)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_sampled_codes_have_an_importance_weighted_bound_and_others_none(trained: Path, images: Images) -> None:
    torch.manual_seed(0)
    encoder, decoder = partial(MLPEncoder, size=[8, 8], width=8), partial(MLPDecoder, size=[8, 8], width=8)
    model = Autoencoder((1, 8, 8), encoder, Categorical(2, 4, 3), decoder, DiscretizedLogistic)
    figures = measure(model, images, samples=20).figures
    assert figures["importance_weighted_bits_per_dim"] < figures["bits_per_dim"]
    assert figures["log_likelihood"] == pytest.approx(-figures["distortion_bits_per_dim"] * 64 * math.log(2))
    alone, with_more = (measure(narrows.load(trained), images, samples=samples).figures for samples in (1, 20))
    assert with_more == alone


def test_no_images_are_an_error(trained: Path, images: Images) -> None:
    with pytest.raises(NarrowsError, match="split of the data is empty"):
        measure(narrows.load(trained), images.subset(0))
