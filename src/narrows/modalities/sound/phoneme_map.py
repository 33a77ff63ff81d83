"""A map from codes to phonemes: each code predicts its most frequent phoneme in the training data.

Source: "Neural Discrete Representation Learning" (van den Oord et al. 2017), section 4.3. A frame is one position of
the codes; its phoneme is the one at the centre of its samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from narrows.errors import NarrowsError

__all__ = ["PhonemeMap"]

SHUFFLES = 20
"""Random orders of the codes over which the control of the mutual information is averaged."""


@dataclass(frozen=True, eq=False)
class PhonemeMap:
    """The phoneme that each code predicts.

    Args:
        counts: number of training frames with each code and phoneme, int64 [K, P].
    """

    counts: np.ndarray

    @classmethod
    def learn(cls, codes: np.ndarray, phonemes: np.ndarray, codebook_size: int, phoneme_count: int) -> PhonemeMap:
        """Return the map learned from training frames.

        Args:
            codes: integers in [0, K), [n].
            phonemes: integers in [0, P), [n].
            codebook_size: K.
            phoneme_count: P.

        Raises:
            NarrowsError: if there are no frames, or not one code and one phoneme per frame.
        """
        return cls(_counts(codes, phonemes, codebook_size, phoneme_count))

    @property
    def most_frequent(self) -> int:
        """The most frequent phoneme of the training frames; the first one in a tie."""
        return int(self.counts.sum(0).argmax())

    @property
    def phonemes(self) -> np.ndarray:
        """The phoneme of each code, int64 [K]; the first one in a tie, and `most_frequent` for an unused code."""
        return np.where(self.counts.any(1), self.counts.argmax(1), self.most_frequent)

    def measure(self, codes: np.ndarray, phonemes: np.ndarray) -> dict[str, float]:
        """Measure the map on frames it was not learned from.

        Two baselines give the accuracy of uninformative codes. A map learned from such codes predicts the most frequent
        phoneme for every code: `most_frequent`, the "random latent space" of the paper. This map, given these codes in
        random order, is right only by coincidence: `shuffled`, which never exceeds the share of the most common phoneme
        among these frames.

        Args:
            codes: integers in [0, K), [n].
            phonemes: integers in [0, P), [n].

        Returns:
            `accuracy`, the share of frames whose code predicts their phoneme; `most_frequent`, the share of frames with
            the most frequent phoneme of the training frames; `shuffled`, the exact mean accuracy over all n! orders of
            the codes; `phoneme_bits`, the entropy of a frame's phoneme; `mutual_information_bits`, the mutual
            information between code and phoneme (see `_entropy`; about 0, possibly negative, for uninformative codes);
            `mutual_information_shuffled_bits`, the mean mutual information over `SHUFFLES` fixed random orders of the
            codes: the bias that remains after the correction, large if there are few frames for K times P; `phonemes`,
            the number that occur here or in training; `frames`, n.

        Raises:
            NarrowsError: as for `learn`.
        """
        counts = _counts(codes, phonemes, *self.counts.shape)
        frames = int(counts.sum())
        of_code, of_phoneme = counts.sum(1), counts.sum(0)
        answers = np.bincount(self.phonemes, of_code, minlength=len(of_phoneme))
        generator = np.random.default_rng(0)
        shuffled = [
            _information(_counts(generator.permutation(codes), phonemes, *counts.shape)) for _ in range(SHUFFLES)
        ]
        return {
            "accuracy": float(counts[np.arange(len(counts)), self.phonemes].sum() / frames),
            "most_frequent": float(of_phoneme[self.most_frequent] / frames),
            "shuffled": float(answers @ of_phoneme / frames**2),
            "mutual_information_bits": _information(counts),
            "mutual_information_shuffled_bits": float(np.mean(shuffled)),
            "phoneme_bits": _entropy(of_phoneme),
            "phonemes": int(np.count_nonzero(of_phoneme + self.counts.sum(0))),
            "frames": frames,
        }

    def accuracy_by_voice(
        self, codes: np.ndarray, phonemes: np.ndarray, voices: np.ndarray, names: Sequence[str]
    ) -> dict[str, float]:
        """Return the accuracy for each voice that has frames, by name.

        Args:
            codes: integers in [0, K), [n].
            phonemes: integers in [0, P), [n].
            voices: indices into `names`, [n].
            names: the names of the voices.
        """
        right = self.phonemes[codes] == phonemes
        return {name: float(right[voices == voice].mean()) for voice, name in enumerate(names) if voice in voices}


def _counts(codes: np.ndarray, phonemes: np.ndarray, codebook_size: int, phoneme_count: int) -> np.ndarray:
    """Return the number of frames with each code and phoneme, int64 [K, P]."""
    if codes.ndim != 1:
        raise NarrowsError(
            f"codes {list(codes.shape)} are several per position, but phonemes are predicted from one: measure a model "
            "with one codebook, or one of its codebooks at a time"
        )
    if codes.shape != phonemes.shape or not len(codes):
        raise NarrowsError(
            f"{len(codes)} codes and {len(phonemes)} phonemes: give one of each per frame, and at least one frame"
        )
    for values, size, what in ((codes, codebook_size, "codes"), (phonemes, phoneme_count, "phonemes")):
        if values.min() < 0 or values.max() >= size:
            raise NarrowsError(f"the {what} run from {values.min()} to {values.max()}, but there are only {size}")
    cells = np.ravel_multi_index((codes, phonemes), (codebook_size, phoneme_count))
    return np.bincount(cells, minlength=codebook_size * phoneme_count).reshape(codebook_size, phoneme_count)


def _information(counts: np.ndarray) -> float:
    """Return the mutual information in bits, H(code) + H(phoneme) - H(code, phoneme), from counts [K, P]."""
    return _entropy(counts.sum(1)) + _entropy(counts.sum(0)) - _entropy(counts)


def _entropy(counts: np.ndarray) -> float:
    """Return the entropy in bits estimated from counts, with the finite-sample correction of Miller (1955).

    The plain estimate from m distinct outcomes in n frames is (m - 1) / 2n nats too low. Without the correction, K
    codes independent of P phonemes would seem to carry some (K - 1) (P - 1) / 2n nats about them: a whole bit for
    512 codes and 60 phonemes in 20,000 frames. The correction is of first order in 1 / n, and m counts only outcomes
    that occur, so it is too small if most pairs of code and phoneme occur once or never.
    """
    seen = counts[counts > 0]
    shares = seen / seen.sum()
    return float(-(shares * np.log2(shares)).sum() + (len(seen) - 1) / (2 * seen.sum() * math.log(2)))
