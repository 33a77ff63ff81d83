"""An encoder that reads sound as its log spectrogram, by which a small model learns what is said in little time.

Ours, beside the encoder of the waveform of van den Oord et al. 2017: Chorowski et al. 2019, "Unsupervised speech
representation learning using WaveNet autoencoders", found that codes read off spectral features tell phonemes better.
"""

from __future__ import annotations

from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from narrows.errors import NarrowsError
from narrows.networks.masking import coarser, masked_instance_norm, run_masked, zeroed
from narrows.networks.strided import check_length, strided_layers

__all__ = ["SpectrogramEncoder"]

FLOOR = 1e-8
"""Added to the power of a band, which is about 0.06 of a full-scale sine: what lies 68 dB below that hardly counts."""


class SpectrogramEncoder(nn.Module):
    """Sound [B, inputs, T] -> features [B, outputs, T / hop], hop = `step` times the product of the strides.

    Every `step` samples the log power of the `window` samples around their middle, under a Hann window, in window / 2
    bands of equal width. Each band is normalised over the time of its own sound, by which most of the voice and the
    loudness are lost (Wu and Lee 2020, "One-shot voice conversion by vector quantization"). Then a convolution of
    window 2 s for each stride s, residual blocks, a 1x1 convolution, and normalisation by batch as in `StridedEncoder`.

    Args:
        inputs: channels of the sound, 1.
        outputs: feature channels.
        width: hidden channels.
        window: samples of a spectrum; 25 to 32 ms of speech.
        step: samples from one spectrum to the next.
        strides: of the convolutions, from the spectra to the features.
        blocks: the number of residual blocks.

    Raises:
        NarrowsError: if there are several channels, the window is shorter than the step, or a stride is below 2.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        width: int = 128,
        window: int = 400,
        step: int = 160,
        strides: tuple[int, ...] = (2, 2),
        blocks: int = 1,
    ) -> None:
        super().__init__()
        if inputs != 1:
            raise NarrowsError(f"a SpectrogramEncoder reads 1 channel, not {inputs}")
        if not 1 <= step <= window:
            raise NarrowsError(f"step is {step} and window {window}: they must be at least 1, the window no less")
        self.step, self.hop = step, step * prod(strides)
        self.register_buffer("taper", torch.hann_window(window) / window, persistent=False)
        self.taper: Tensor
        bands = window // 2
        self.layers = nn.Sequential(nn.InstanceNorm1d(bands), *strided_layers(bands, outputs, width, strides, blocks))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the features of sound, of which the samples of the mask, bool [B, T], count.

        Raises:
            NarrowsError: if T is no multiple of hop, or a batch of one feature is to be normalised.
        """
        check_length(self, x)
        frames = coarser(mask, self.step)
        norm, *layers = self.layers
        spectra = self.spectrogram(zeroed(x, mask))
        normalised = norm(spectra) if frames is None else masked_instance_norm(spectra, frames)
        return run_masked(nn.Sequential(*layers), normalised, frames)

    def spectrogram(self, x: Tensor) -> Tensor:
        """The natural log of the power, [B, bands, T / step], of sound [B, 1, T]."""
        with torch.autocast(x.device.type, enabled=False):
            beyond = len(self.taper) - self.step
            frames = F.pad(x[:, 0].float(), (beyond // 2, beyond - beyond // 2)).unfold(1, len(self.taper), self.step)
            power = torch.fft.rfft(frames * self.taper).abs().square()[..., 1 : 1 + len(self.taper) // 2]
            return (power + FLOOR).log().transpose(1, 2)
