import math

import pytest
import torch

from narrows.errors import NarrowsError
from narrows.networks.spectrogram import FLOOR, SpectrogramEncoder


@pytest.mark.parametrize(("step", "strides", "hop"), [(16, (2, 2), 64), (10, (2, 5), 100)])
def test_a_feature_for_every_hop(step: int, strides: tuple[int, ...], hop: int) -> None:
    encoder = SpectrogramEncoder(1, 5, width=8, window=40, step=step, strides=strides).eval()
    assert encoder.hop == hop
    assert encoder(torch.randn(2, 1, 3 * hop)).shape == (2, 5, 3)
    with pytest.raises(NarrowsError, match=f"{hop + 1} samples are not a multiple of {hop}"):
        encoder(torch.randn(2, 1, hop + 1))


def test_a_sine_has_its_power_in_its_band() -> None:
    encoder = SpectrogramEncoder(1, 5, width=8, window=64, step=32, strides=(2,))
    # Twelve periods in a window: the Hann window passes half of the amplitude, of which a bin holds half.
    sine = 0.8 * torch.sin(2 * math.pi * 12 / 64 * torch.arange(640)).view(1, 1, -1)
    levels = encoder.spectrogram(sine)
    assert levels.shape == (1, 32, 20)
    inside = levels[0, :, 1:-1]
    assert (inside.argmax(0) == 11).all()
    torch.testing.assert_close(inside[11].exp(), torch.full((18,), (0.8 / 4) ** 2 + FLOOR))
    torch.testing.assert_close(encoder.spectrogram(torch.zeros(1, 1, 64)).exp(), torch.full((1, 32, 2), FLOOR))


def test_a_spectrum_is_of_the_window_around_its_middle() -> None:
    encoder = SpectrogramEncoder(1, 5, width=8, window=8, step=4, strides=(2,))
    sound = torch.randn(1, 1, 40, requires_grad=True)
    levels = encoder.spectrogram(sound)
    for frame in range(10):
        (gradient,) = torch.autograd.grad(levels[0, :, frame].sum(), sound, retain_graph=True)
        # Its first sample has weight 0 under the taper.
        seen = [sample for sample in range(4 * frame - 1, 4 * frame + 6) if 0 <= sample < 40]
        assert gradient[0, 0].nonzero().squeeze(1).tolist() == seen


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"inputs": 2}, "reads 1 channel, not 2"),
        ({"window": 10, "step": 20}, "step is 20 and window 10"),
        ({"strides": (1,)}, "each at least 2"),
    ],
)
def test_bad_settings(settings: dict, message: str) -> None:
    with pytest.raises(NarrowsError, match=message):
        SpectrogramEncoder(**{"inputs": 1, "outputs": 4, **settings})
