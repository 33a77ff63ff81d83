"""An encoder of log spectrograms, with which a small model learns speech content in little training time.

An alternative to the waveform encoder of van den Oord et al. 2017: Chorowski et al. 2019, "Unsupervised speech
representation learning using WaveNet autoencoders", found that codes of spectral features predict phonemes better.
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
"""Added to the power of a band, which is about 0.06 for a full-scale sine: power 68 dB below that hardly counts."""


class SpectrogramEncoder(nn.Module):
    """Sound [B, inputs, T] -> features [B, outputs, T / hop], with hop = `step` times the product of the strides.

    First the log power spectrum in window / 2 bands of equal width: one for every `step` samples, over the `window`
    samples centred on them, with a Hann window. Each band is normalised over the time of its own sound, which removes
    most of the speaker's voice and the loudness (Wu and Lee 2020, "One-shot voice conversion by vector quantization").
    Then a convolution of window 2 s for each stride s, residual blocks, a 1x1 convolution, and batch normalisation as
    in `StridedEncoder`.

    Args:
        inputs: channels of the sound, 1.
        outputs: feature channels.
        width: hidden channels.
        window: samples of a spectrum; 25 to 32 ms for speech.
        step: samples from one spectrum to the next.
        strides: strides of the convolutions, from the spectra to the features.
        blocks: number of residual blocks.

    Raises:
        NarrowsError: if `inputs` is not 1, the window is shorter than the step, or a stride is below 2.
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
            raise NarrowsError(f"a SpectrogramEncoder reads 1 channel, not {inputs}: use StridedEncoder")
        if not 1 <= step <= window:
            raise NarrowsError(f"step is {step} and window {window}: step must be from 1 to window")
        self.step, self.hop = step, step * prod(strides)
        self.register_buffer("taper", torch.hann_window(window) / window, persistent=False)
        self.taper: Tensor
        bands = window // 2
        self.layers = nn.Sequential(nn.InstanceNorm1d(bands), *strided_layers(bands, outputs, width, strides, blocks))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the features of sound; only the samples in `mask`, bool [B, T], count.

        Raises:
            NarrowsError: if T is not a multiple of hop, or a training batch has only one feature to normalise.
        """
        check_length(self, x)
        frames = coarser(mask, self.step)
        norm, *layers = self.layers
        spectra = self.spectrogram(zeroed(x, mask))
        normalised = norm(spectra) if frames is None else masked_instance_norm(spectra, frames)
        return run_masked(nn.Sequential(*layers), normalised, frames)

    def spectrogram(self, x: Tensor) -> Tensor:
        """Return the natural log of the power, [B, bands, T / step], of sound [B, 1, T]."""
        with torch.autocast(x.device.type, enabled=False):
            beyond = len(self.taper) - self.step
            frames = F.pad(x[:, 0].float(), (beyond // 2, beyond - beyond // 2)).unfold(1, len(self.taper), self.step)
            power = torch.fft.rfft(frames * self.taper).abs().square()[..., 1 : 1 + len(self.taper) // 2]
            return (power + FLOOR).log().transpose(1, 2)
