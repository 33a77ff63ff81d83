"""Features of each position, from the examples to a prior: windows, batches, the loss and the measurements."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from narrows.bottlenecks import VectorQuantizer
from narrows.commands.prior import codes_of
from narrows.data import Batch, BatchPlan, Examples, Loader, Spec, batches
from narrows.data.dataset import Stored
from narrows.errors import NarrowsError
from narrows.evaluation import measure, measure_prior
from narrows.likelihoods import GaussianDensityFixed
from narrows.models import Autoencoder
from narrows.networks import StridedDecoder, StridedEncoder
from narrows.priors import Condition, WaveNetPrior
from narrows.sampling import Sampling
from narrows.training.tasks import PriorTask

LENGTHS = (7, 4, 2)
CHANNELS, WINDOW = 3, 4


class Pointwise(nn.Conv1d):
    """A network with a latent for each position."""

    hop = 1

    def __init__(self, inputs: int, outputs: int, **_: Any) -> None:
        super().__init__(inputs, outputs, 1)


@dataclass
class Series(Examples):
    """Series of several lengths whose features at a position are the position's own data."""

    featured: bool = True
    masked: bool = False
    classes = ()  # type: ignore[assignment]
    labels = None

    def __len__(self) -> int:
        return len(LENGTHS)

    def whole(self, at_most: int) -> Iterator[Stored]:
        for number, length in enumerate(LENGTHS):
            yield (torch.randn(1, CHANNELS, length, generator=torch.Generator().manual_seed(number)),)

    def batch(self, *stored: Tensor, **_: Any) -> Batch:
        mask = torch.ones(len(stored[0]), stored[0].shape[2], dtype=torch.bool) if self.masked else None
        return Batch(stored[0], mask, features=stored[0] if self.featured else None)

    def subset(self, count: int) -> Self:
        return self

    def relabelled(self, classes: list[str], labels: np.ndarray | None) -> Self:
        return self

    def batches(self, plan: BatchPlan) -> Loader:
        raise NotImplementedError

    def name(self, index: int) -> str:
        return str(index)

    def taken(self, index: int) -> Self:
        raise NotImplementedError


@pytest.fixture
def model() -> Autoencoder:
    """A model in which the code of a position is a function of the position's data, hence of its features."""
    torch.manual_seed(0)
    quantizer = VectorQuantizer(dim=CHANNELS, codebook_size=8)
    quantizer.codebook.vectors.normal_()
    spec = Spec((CHANNELS, WINDOW), bounds=None, variable=True, channels=CHANNELS)
    model = Autoencoder(spec, Pointwise, quantizer, Pointwise, GaussianDensityFixed).eval()
    model.prior = WaveNetPrior(model.codes_of((WINDOW,)), channels=4, skip_channels=8, stacks=1, layers=2).eval()
    return model


def test_windows_of_codes_have_the_features_of_their_positions(model: Autoencoder) -> None:
    codes, labels, features = codes_of(model, Series(masked=True), model.codes)
    assert labels is None
    assert features is not None
    assert features.shape == (5, CHANNELS, WINDOW)  # from 0, 2 and 3 of the first; the shortest is padded with zeros
    np.testing.assert_array_equal(model.encode(torch.from_numpy(features)), codes)
    assert not features[-1, :, 2:].any()


def test_examples_shorter_than_a_window_are_left_out_of_data_without_padding(
    model: Autoencoder, caplog: pytest.LogCaptureFixture
) -> None:
    whole, plain = codes_of(model, Series(masked=True), model.codes), codes_of(model, Series(), model.codes)
    np.testing.assert_array_equal(plain.codes, whole.codes[:-1])
    assert plain.features is not None
    assert len(plain.features) == 4
    assert "1 of 3 examples are shorter than the window of 4 codes, and left out" in caplog.text
    with pytest.raises(NarrowsError, match="window is 8 codes, but the longest example of a split has 7"):
        codes_of(model, Series(), model.codes_of((8,)))


def test_batches_keep_features_with_their_codes(model: Autoencoder) -> None:
    codes, _, features = codes_of(model, Series(), model.codes)
    with batches(codes, None, BatchPlan(3), features=features) as loader:
        for chosen, given in itertools.islice(loader, 4):
            assert torch.equal(model.encode(given), chosen.long())


def test_the_loss_and_the_measurement_are_given_the_features(model: Autoencoder) -> None:
    codes, _, features = codes_of(model, Series(), model.codes)
    assert features is not None
    assert model.prior is not None
    with torch.no_grad():
        given = Condition(features=torch.from_numpy(features))
        expected = -model.prior.log_prob(torch.from_numpy(codes).long(), given).mean().item()
        loss, _ = PriorTask(model.prior, 1)(torch.from_numpy(codes), torch.from_numpy(features))
    assert loss.item() == pytest.approx(expected)
    assert measure_prior(model.prior, codes, None, 1, 2, features)["loss"] == pytest.approx(expected)


def test_whole_examples_are_measured_in_windows_with_their_features(model: Autoencoder) -> None:
    assert model.prior is not None
    nats = 0.0
    for (x,) in Series().whole(1):
        windows = x.shape[2] // WINDOW
        nats += (x.shape[2] - windows * WINDOW) * math.log(8)
        for window in x.split(WINDOW, 2)[:windows]:
            nats -= model.prior.log_prob(model.encode(window), Condition(features=window)).item()
    bits = measure(model, Series()).figures["prior_rate_bits_per_dim"]
    assert bits == pytest.approx(nats / math.log(2) / (sum(LENGTHS) * CHANNELS))


def test_samples_have_unknown_features(model: Autoencoder) -> None:
    latents, _ = model.sample_latents(2, None, Sampling(seed=0))
    assert latents.shape == (2, CHANNELS, WINDOW)


def test_missing_features_and_other_shapes_are_refused(model: Autoencoder) -> None:
    with pytest.raises(NarrowsError, match=r"must have the shape \[1, 3, 7\], one for each position, got none"):
        codes_of(model, Series(featured=False), model.codes)
    with pytest.raises(NarrowsError, match=r"pass Condition\(features"):
        measure(model, Series(featured=False))


@pytest.mark.parametrize("variable", [True, False])
def test_models_without_a_latent_for_each_position_are_refused(variable: bool) -> None:
    spec = Spec((1, 8), variable=variable, channels=2)
    with pytest.raises(NarrowsError, match="4 positions per latent" if variable else "examples of a fixed size"):
        Autoencoder(
            spec,
            lambda inputs, outputs: StridedEncoder(inputs, outputs, width=4, strides=(2, 2), blocks=1),
            VectorQuantizer(dim=3, codebook_size=8),
            lambda inputs, outputs, *, hop: StridedDecoder(inputs, outputs, width=4, strides=(2, 2), blocks=1, hop=hop),
            GaussianDensityFixed,
        )


@pytest.mark.parametrize("channels", [-1, True, 1.5])
def test_channels_that_are_no_number_of_features_are_refused(channels: Any) -> None:
    with pytest.raises(NarrowsError, match="channels is"):
        Spec((1, 8), channels=channels)
