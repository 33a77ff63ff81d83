"""Models of data without bounds: read as they are, checked for finite values only, and loaded as they were."""

from functools import partial

import pytest
import torch

from narrows.bottlenecks import Gaussian
from narrows.data import Spec
from narrows.errors import NarrowsError
from narrows.likelihoods import GaussianDensityShared
from narrows.models import Autoencoder
from narrows.networks import SequenceDecoder, SequenceEncoder

SPEC = Spec((3, 8), bounds=None, variable=True)


def model() -> Autoencoder:
    torch.manual_seed(0)
    encoder = partial(SequenceEncoder, width=4, strides=(2, 2), blocks=1)
    decoder = partial(SequenceDecoder, width=4, blocks=1)
    return Autoencoder(SPEC, encoder, Gaussian(2), decoder, GaussianDensityShared).eval()


def test_data_are_not_scaled() -> None:
    made, x = model(), 100 * torch.randn(2, 3, 8)
    assert torch.equal(made.features(x), made.encoder(x))
    assert made.reconstruct(x[:, :, :7]).shape == (2, 3, 7)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.full((1, 3, 8), float("nan")), "finite"),
        (torch.full((1, 3, 8), float("inf")), "finite"),
        (torch.zeros(1, 3, 8, dtype=torch.long), "must be floats, not torch.int64"),
    ],
)
def test_what_is_not_finite_is_refused(x: torch.Tensor, message: str) -> None:
    with pytest.raises(NarrowsError, match=message):
        model().encode(x)
