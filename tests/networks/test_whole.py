import pytest
import torch

from narrows.errors import NarrowsError
from narrows.networks import GlobalDecoder, GlobalEncoder


@pytest.mark.parametrize("size", [[21, 21], [5, 8], [13], [4], [1], [4, 5, 6]])
@pytest.mark.parametrize("times", [0, 1, 2])
def test_a_whole_grid_becomes_a_vector_and_features_of_each_position(size: list[int], times: int) -> None:
    decoder = GlobalDecoder(6, 3, size, width=4, upsamplings=times, blocks=1)
    assert decoder(torch.randn(2, 6)).shape == (2, 3, *size)
    if min(size) >> times:
        encoder = GlobalEncoder(3, 6, size, width=4, downsamplings=times, blocks=1)
        assert encoder(torch.randn(2, 3, *size)).shape == (2, 6)
    else:
        with pytest.raises(NarrowsError, match="lower downsamplings"):
            GlobalEncoder(3, 6, size, width=4, downsamplings=times)


def test_every_position_has_a_say_and_hears_every_entry() -> None:
    torch.manual_seed(0)
    encoder, decoder = (
        GlobalEncoder(2, 3, [7, 9], width=8).double().eval(),
        GlobalDecoder(3, 2, [7, 9], width=8).double(),
    )
    x, z = torch.randn(1, 2, 7, 9).double().requires_grad_(), torch.randn(1, 3).double().requires_grad_()
    (gradient,) = torch.autograd.grad(encoder(x).square().sum(), x)
    assert (gradient != 0).all()
    jacobian = torch.autograd.functional.jacobian(decoder, z)
    assert (jacobian.abs().sum((0, 4)) > 0).all()
    assert not torch.equal(jacobian[0, :, 0, 0], jacobian[0, :, 6, 8])


def test_features_are_normalised_over_the_batch() -> None:
    torch.manual_seed(0)
    encoder = GlobalEncoder(2, 3, [6, 6], width=64, downsamplings=1)
    features = encoder(torch.randn(50, 2, 6, 6))
    torch.testing.assert_close(features.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(features.var(0, correction=0), torch.ones(3), atol=1e-2, rtol=0)
    with pytest.raises(NarrowsError, match=r"raise training\.batch_size"):
        encoder(torch.randn(1, 2, 6, 6))


def test_grids_of_four_dimensions_are_refused() -> None:
    with pytest.raises(NarrowsError, match="has 4 dimensions"):
        GlobalEncoder(2, 3, [2, 2, 2, 2])
    with pytest.raises(NarrowsError, match="width is 0"):
        GlobalDecoder(2, 3, [2, 2], width=0)
