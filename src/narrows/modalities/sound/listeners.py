"""Listeners: classifiers of real clips (which word, which speaker) that judge the sounds a model generates.

A listener is a support vector machine with a Gaussian kernel (Cortes and Vapnik 1995) on the log-mel spectrogram of a
clip, stretched to a fixed length. Rates come with the interval of Wilson (1927), which is valid near 0 and 1 as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch.nn.functional as F
from scipy.stats import binomtest
from sklearn.svm import SVC
from torch import Tensor

from narrows.errors import NarrowsError
from narrows.modalities.sound.mel import log_mel

__all__ = ["Listener", "wilson"]

FRAMES = 16
"""Frames per clip, each the mean of an equal share of the spectrogram's frames."""
RANGE = 35.0
"""In dB below a clip's loudest band; anything quieter is ignored, so that background hiss carries no information."""
COST = 10.0
"""C of the support vector machine; on spoken digits, any value from 1 up does as well."""


@dataclass(frozen=True, eq=False)
class Listener:
    """A classifier of clips of any length that ignores their loudness and the silence around them.

    Args:
        classifier: a fitted scikit-learn classifier of clip features, float32 [FRAMES * bands].
        sample_rate: of every clip, in Hz.
    """

    classifier: Any
    sample_rate: int

    @classmethod
    def train(cls, waveforms: Sequence[Tensor], labels: Sequence[int], sample_rate: int) -> Listener:
        """Train a listener, deterministically.

        Args:
            waveforms: the clips, float32 [T] each.
            labels: the label of each clip.
            sample_rate: in Hz.

        Raises:
            NarrowsError: if there is not one label for each clip, there are fewer than two different labels, or a clip
                is invalid (see `log_mel`).
        """
        _check_labels(waveforms, labels)
        kinds = np.unique(labels).tolist()
        if len(kinds) < 2:
            raise NarrowsError(f"the clips have the labels {kinds}: a listener needs at least two different labels")
        return cls(SVC(C=COST).fit(_heard(waveforms, sample_rate), np.asarray(labels)), sample_rate)

    def labels(self, waveforms: Sequence[Tensor]) -> np.ndarray:
        """Return the predicted label of each clip, float32 [T], among the training labels, int64 [N].

        Raises:
            NarrowsError: if there are no clips, or a clip is invalid (see `log_mel`).
        """
        return self.classifier.predict(_heard(waveforms, self.sample_rate))

    def accuracy(self, waveforms: Sequence[Tensor], labels: Sequence[int]) -> float:
        """Return the share of clips whose predicted label is correct.

        Raises:
            NarrowsError: as for `labels`, or if there is not one label for each clip.
        """
        _check_labels(waveforms, labels)
        return float((self.labels(waveforms) == np.asarray(labels)).mean())


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """Return the 95% confidence interval of a rate, given `hits` in `trials` independent trials.

    Raises:
        NarrowsError: if there are no trials, or fewer than hits.
    """
    if not 0 <= hits <= trials or not trials:
        raise NarrowsError(f"{hits} hits in {trials} trials: a rate needs at least one trial, and at most as many hits")
    interval = binomtest(hits, trials).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def _check_labels(waveforms: Sequence[Tensor], labels: Sequence[int]) -> None:
    if len(waveforms) != len(labels):
        raise NarrowsError(f"{len(waveforms)} clips and {len(labels)} labels: a listener needs one label for each clip")


def _heard(waveforms: Sequence[Tensor], sample_rate: int) -> np.ndarray:
    """Return the features of the clips, float32 [N, FRAMES * bands]."""
    if not len(waveforms):
        raise NarrowsError("there are no clips to listen to")
    return np.stack([_features(waveform, sample_rate) for waveform in waveforms])


def _features(waveform: Tensor, sample_rate: int) -> np.ndarray:
    """Return the spectrogram of a clip from its first to its last audible frame, relative to its mean level.

    Bands are kept in dB. Scaled to unit variance, bands that are almost always silent would weigh as much as any other,
    and a little hiss in them would mask the voice.
    """
    # Scaled to its peak, so that a quiet recording keeps its distance from the floor of the spectrogram.
    peak = waveform.abs().amax() if waveform.numel() else 0
    decibels = log_mel(waveform / (peak or 1), sample_rate)
    threshold = decibels.max() - RANGE
    audible = (decibels.amax(1) >= threshold).nonzero()
    heard = decibels[audible[0] : audible[-1] + 1].clamp(min=threshold)
    return F.adaptive_avg_pool1d((heard - heard.mean()).T, FRAMES).flatten().cpu().numpy()
