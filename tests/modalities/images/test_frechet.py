from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from narrows.data.pixels import to_unit
from narrows.errors import NarrowsError
from narrows.modalities.images.frechet import FeatureNetwork, accuracy, frechet_distance, train_features
from narrows.modalities.images.images import ImageData, Images, open_images
from narrows.modalities.images.settings import ImageSettings


class Pixels(nn.Flatten):
    """Stands in for a network: its features are the pixels themselves."""

    num_features = 4


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Images this small gain nothing from a second thread, and wait for it where the cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data() -> ImageData:
    return open_images(ImageSettings(test=0.25))


@pytest.fixture(scope="module")
def network(data: ImageData) -> FeatureNetwork:
    return train_features(data.train, len(data.classes), steps=60)


@pytest.fixture(scope="module")
def levels() -> Tensor:
    """Correlated images [200, 1, 2, 2] of even levels from 40 to 160, in units of 1/255."""
    drawn = torch.randint(0, 31, (200, 4), generator=torch.Generator().manual_seed(0))
    return (40 + 2 * (drawn + drawn[:, :1])).reshape(200, 1, 2, 2)


def test_a_shift_costs_its_square(levels: Tensor) -> None:
    shift = torch.tensor([3, -5, 0, 7]).reshape(1, 2, 2)
    expected = (3**2 + 5**2 + 7**2) / 255**2
    assert frechet_distance(Pixels(), levels / 255, (levels + shift) / 255) == pytest.approx(expected, rel=1e-4)


def test_a_scale_costs_that_of_the_deviations_and_the_mean(levels: Tensor) -> None:
    x = levels.flatten(1).double() / 255
    expected = 0.5**2 * (x.var(0).sum() + x.mean(0).square().sum())
    assert frechet_distance(Pixels(), levels / 255, levels / 2 / 255) == pytest.approx(expected.item(), rel=1e-4)


def test_covariances_that_do_not_commute_have_the_closed_form(levels: Tensor) -> None:
    x = levels.flatten(1).double()
    y = torch.stack([x[:, 3], x[:, 1], 200 - x[:, 0], (x[:, 2] + 60) / 2], 1)
    # The square root of S1^(1/2) S2 S1^(1/2), which is symmetric, has the trace of that of S1 S2.
    values, vectors = torch.linalg.eigh(torch.cov(x.T))
    root = vectors @ values.sqrt().diag() @ vectors.T
    overlap = torch.linalg.eigvalsh(root @ torch.cov(y.T) @ root).sqrt().sum()
    expected = (x.mean(0) - y.mean(0)).square().sum() + x.var(0).sum() + y.var(0).sum() - 2 * overlap
    distance = frechet_distance(Pixels(), x.reshape(-1, 1, 2, 2) / 255, y.reshape(-1, 1, 2, 2) / 255)
    assert distance == pytest.approx(expected.item() / 255**2, rel=1e-4)


def test_values_beyond_the_screen_are_clamped() -> None:
    drawn = 2 * torch.rand(50, 1, 2, 2, generator=torch.Generator().manual_seed(0)) - 0.5
    assert frechet_distance(Pixels(), drawn.clamp(0, 1), drawn) == pytest.approx(0, abs=1e-7)


def test_a_set_is_at_no_distance_from_itself_and_noise_takes_it_away(network: FeatureNetwork, data: ImageData) -> None:
    real = to_unit(torch.from_numpy(data.test.pixels))
    noise = torch.randn(real.shape, generator=torch.Generator().manual_seed(0))
    distances = [frechet_distance(network, data.test, real + scale * noise) for scale in (0, 0.05, 0.1, 0.2, 0.4)]
    assert distances[0] == pytest.approx(0, abs=1e-5)
    assert all(nearer < farther for nearer, farther in pairwise(distances))
    halves = frechet_distance(network, real[::2], real[1::2])
    assert distances[0] < halves < distances[-1]


def test_features_learn_the_labels(network: FeatureNetwork, data: ImageData) -> None:
    assert accuracy(network, data.test) > 0.9
    x = to_unit(torch.from_numpy(data.test.pixels))
    right = network.classifier(network(x)).argmax(1).numpy() == data.test.labels
    assert accuracy(network, data.test) == right.sum() / len(right)
    assert network(x).shape == (len(x), 64)


def test_features_are_a_function_of_the_seed(data: ImageData) -> None:
    state = torch.get_rng_state()
    counted: list[int] = []
    first = train_features(data.train, 10, seed=3, steps=2, advance=counted.append)
    assert sum(counted) == 2
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(1)
    again, other = (train_features(data.train, 10, seed=seed, steps=2) for seed in (3, 4))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("size", [(8, 8), (9, 13), (32, 32)])
def test_colour_images_of_any_size_have_features(size: tuple[int, int]) -> None:
    drawn = np.random.default_rng(0).integers(0, 256, (70, 3, *size), np.uint8)
    images = Images(drawn, np.arange(70) % 3)
    assert frechet_distance(train_features(images, 3, steps=1), images, images) == pytest.approx(0, abs=1e-5)


def test_measuring_leaves_the_network_alone(data: ImageData) -> None:
    network = FeatureNetwork(1, 10).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    frechet_distance(network, data.test, data.train.subset(100))
    accuracy(network, data.test)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_what_cannot_be_measured_is_an_error(network: FeatureNetwork, data: ImageData) -> None:
    unlabelled = Images(data.train.pixels, None)
    with pytest.raises(NarrowsError, match="needs labelled data"):
        train_features(unlabelled, 0)
    with pytest.raises(NarrowsError, match="at least two classes"):
        train_features(data.train, 1)
    for images in (unlabelled, data.test.subset(0)):
        with pytest.raises(NarrowsError, match="labelled images"):
            accuracy(network, images)
    with pytest.raises(NarrowsError, match=r"64 real images.* at least 65"):
        frechet_distance(network, data.train.subset(64), data.train)
    with pytest.raises(NarrowsError, match=r"64 samples.* at least 65"):
        frechet_distance(network, data.train, data.train.subset(64))
    with pytest.raises(NarrowsError, match="not finite"):
        frechet_distance(network, data.train.subset(65), torch.full((65, 1, 8, 8), torch.nan))
