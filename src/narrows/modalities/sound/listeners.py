"""Listeners judge sounds that a model made: classifiers trained on real clips, such as of what is said, or who says it.

A support vector machine with a Gaussian kernel (Cortes and Vapnik 1995) hears the log-mel spectrogram of a clip,
stretched to a fixed length. Rates come with the interval of Wilson (1927), which holds near 0 and 1 as well.
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
"""Of a clip, each the mean of its share of the spectrogram's."""
RANGE = 35.0
"""In dB below a clip's loudest: what is quieter is not heard, so that a recording's or a model's hiss tells nothing."""
COST = 10.0
"""C of the support vector machine. Spoken digits are told as well from 1 on."""


@dataclass(frozen=True, eq=False)
class Listener:
    """A classifier of clips of any length, to which neither loudness nor more silence around them makes a difference.

    Args:
        classifier: a fitted scikit-learn classifier of what `train` hears of a clip, float32 [FRAMES bands].
        sample_rate: samples a second, of every clip.
    """

    classifier: Any
    sample_rate: int

    @classmethod
    def train(cls, waveforms: Sequence[Tensor], labels: Sequence[int], sample_rate: int) -> Listener:
        """Train a listener; it is a function of the clips alone.

        Args:
            waveforms: the clips, float32 [T] each.
            labels: what each is.
            sample_rate: samples a second.

        Raises:
            NarrowsError: if there is not one label for each clip, there are fewer than two different labels, or a clip
                is none (see `log_mel`).
        """
        _check_labels(waveforms, labels)
        kinds = np.unique(labels).tolist()
        if len(kinds) < 2:
            raise NarrowsError(f"the clips have the labels {kinds}: a listener learns to tell two or more apart")
        return cls(SVC(C=COST).fit(_heard(waveforms, sample_rate), np.asarray(labels)), sample_rate)

    def labels(self, waveforms: Sequence[Tensor]) -> np.ndarray:
        """What each clip, float32 [T], is heard as: one of the labels of training, int64 [N].

        Raises:
            NarrowsError: if there are no clips, or a clip is none (see `log_mel`).
        """
        return self.classifier.predict(_heard(waveforms, self.sample_rate))

    def accuracy(self, waveforms: Sequence[Tensor], labels: Sequence[int]) -> float:
        """The share of clips that are heard as what they are.

        Raises:
            NarrowsError: as `labels`, or if there is not one label for each clip.
        """
        _check_labels(waveforms, labels)
        return float((self.labels(waveforms) == np.asarray(labels)).mean())


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """The 95% confidence interval of a rate of which `hits` of `trials` independent ones were seen.

    Raises:
        NarrowsError: if there were no trials, or not as many as hits.
    """
    if not 0 <= hits <= trials or not trials:
        raise NarrowsError(f"{hits} hits of {trials} trials make no rate")
    interval = binomtest(hits, trials).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def _check_labels(waveforms: Sequence[Tensor], labels: Sequence[int]) -> None:
    if len(waveforms) != len(labels):
        raise NarrowsError(f"{len(waveforms)} clips and {len(labels)} labels: a listener takes one label for each clip")


def _heard(waveforms: Sequence[Tensor], sample_rate: int) -> np.ndarray:
    """What a listener hears of the clips, float32 [N, FRAMES bands]."""
    if not len(waveforms):
        raise NarrowsError("there are no clips to listen to")
    return np.stack([_features(waveform, sample_rate) for waveform in waveforms])


def _features(waveform: Tensor, sample_rate: int) -> np.ndarray:
    """The spectrogram of a clip from its first to its last audible frame, around its mean level.

    The bands are left in dB: if each were given unit variance, those hardly ever heard would weigh as much as any, and
    a little hiss in them would drown the voice.
    """
    # Scaled to its peak, so that a quiet recording does not reach the floor of the spectrogram sooner.
    peak = waveform.abs().amax() if waveform.numel() else 0
    decibels = log_mel(waveform / (peak or 1), sample_rate)
    threshold = decibels.max() - RANGE
    audible = (decibels.amax(1) >= threshold).nonzero()
    heard = decibels[audible[0] : audible[-1] + 1].clamp(min=threshold)
    return F.adaptive_avg_pool1d((heard - heard.mean()).T, FRAMES).flatten().cpu().numpy()
