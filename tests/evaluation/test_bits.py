import math
from pathlib import Path

import numpy as np
import pytest
import torch

import narrows
from narrows.data import Images, ImageSettings, open_images, to_unit
from narrows.errors import NarrowsError
from narrows.evaluation import measure, measure_prior


@pytest.fixture(scope="module")
def images() -> Images:
    return open_images(ImageSettings()).test.first(30)


def test_the_figures_are_those_of_each_image_alone(trained: Path, images: Images) -> None:
    model = narrows.load(trained)
    assert images.labels is not None
    x, labels = to_unit(torch.from_numpy(images.pixels)), torch.from_numpy(images.labels)
    measured = measure(model, images, batch_size=7)
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


def test_no_images_are_an_error(trained: Path, images: Images) -> None:
    with pytest.raises(NarrowsError, match="split of the data is empty"):
        measure(narrows.load(trained), images.first(0))
