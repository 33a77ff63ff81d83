"""What codes say about phonemes: each stands for its most frequent phoneme of training, and is held to it elsewhere.

"Neural Discrete Representation Learning" (van den Oord et al. 2017), section 4.3. A frame is one position of the codes,
and its phoneme the one at the centre of its samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from narrows.errors import NarrowsError

__all__ = ["PhonemeMap"]

SHUFFLES = 20
"""Orders of the codes that the control of the mutual information is a mean of."""


@dataclass(frozen=True, eq=False)
class PhonemeMap:
    """The phonemes that codes stand for.

    Args:
        counts: how many training frames have each code and phoneme, int64 [K, P].
    """

    counts: np.ndarray

    @classmethod
    def learn(cls, codes: np.ndarray, phonemes: np.ndarray, codebook_size: int, phoneme_count: int) -> PhonemeMap:
        """The map of training frames.

        Args:
            codes: integers in [0, K), [n].
            phonemes: integers in [0, P), [n].
            codebook_size: K.
            phoneme_count: P.

        Raises:
            NarrowsError: if the frames are none, or not one code and one phoneme each.
        """
        return cls(_counts(codes, phonemes, codebook_size, phoneme_count))

    @property
    def most_frequent(self) -> int:
        """The most frequent phoneme of training; of equals, the first."""
        return int(self.counts.sum(0).argmax())

    @property
    def phonemes(self) -> np.ndarray:
        """The phoneme of each code, int64 [K]: of equals the first, and `most_frequent` of a code never seen."""
        return np.where(self.counts.any(1), self.counts.argmax(1), self.most_frequent)

    def measure(self, codes: np.ndarray, phonemes: np.ndarray) -> dict[str, float]:
        """Hold the map to frames it was not learned from.

        The two baselines are the accuracy of codes that know nothing. A map learned from such codes comes to name the
        most frequent phoneme for all: `most_frequent`, the paper's "random latent space". The map as it is, given its
        own codes in random order, is right as often as its answers and the phonemes coincide by their frequencies
        alone: `shuffled`, never above the share of the commonest phoneme among these frames.

        Args:
            codes: integers in [0, K), [n].
            phonemes: integers in [0, P), [n].

        Returns:
            `accuracy`, the share of frames whose code stands for their phoneme; `most_frequent`, that of the most
            frequent phoneme of training; `shuffled`, the mean accuracy over all n! orders of the codes, exactly;
            `phoneme_bits`, the entropy of a frame's phoneme, and `mutual_information_bits`, what its code tells of it
            (see `_entropy`; about 0, and perhaps below, if nothing); `mutual_information_shuffled_bits`, the same of
            the codes in random order, the mean of `SHUFFLES` orders that are always the same: what the correction
            leaves of the bias, which is large where frames are few for K times P; `phonemes`, how many occur here or in
            training; `frames`, n.

        Raises:
            NarrowsError: as `learn`.
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
        """The accuracy on the frames of each voice that has any, by its name.

        Args:
            codes: integers in [0, K), [n].
            phonemes: integers in [0, P), [n].
            voices: positions in `names`, [n].
            names: of the voices.
        """
        right = self.phonemes[codes] == phonemes
        return {name: float(right[voices == voice].mean()) for voice, name in enumerate(names) if voice in voices}


def _counts(codes: np.ndarray, phonemes: np.ndarray, codebook_size: int, phoneme_count: int) -> np.ndarray:
    """How many frames have each code and phoneme, int64 [K, P]."""
    if codes.ndim != 1:
        raise NarrowsError(
            f"codes {list(codes.shape)} are several at a position, but phonemes are told by one: measure a model with "
            "one codebook, or one of its codebooks at a time"
        )
    if codes.shape != phonemes.shape or not len(codes):
        raise NarrowsError(f"{len(codes)} codes and {len(phonemes)} phonemes are not one of each for some frames")
    for values, size, what in ((codes, codebook_size, "codes"), (phonemes, phoneme_count, "phonemes")):
        if values.min() < 0 or values.max() >= size:
            raise NarrowsError(f"the {what} run from {values.min()} to {values.max()}, but there are only {size}")
    cells = np.ravel_multi_index((codes, phonemes), (codebook_size, phoneme_count))
    return np.bincount(cells, minlength=codebook_size * phoneme_count).reshape(codebook_size, phoneme_count)


def _information(counts: np.ndarray) -> float:
    """The mutual information in bits of code and phoneme, H(code) + H(phoneme) - H(code, phoneme), of counts [K, P]."""
    return _entropy(counts.sum(1)) + _entropy(counts.sum(0)) - _entropy(counts)


def _entropy(counts: np.ndarray) -> float:
    """The entropy in bits of what was counted, with the correction of Miller (1955) for the finite sample.

    m outcomes seen in n frames look (m - 1) / 2n nats too certain. Uncorrected, K codes that know nothing of P phonemes
    would seem to tell some (K - 1) (P - 1) / 2n nats of them: a whole bit, for 512 codes and 60 phonemes in 20,000
    frames. It holds to the first order in 1 / n: outcomes that are never seen are not counted in m, so where most pairs
    of code and phoneme are seen once or never, it falls short.
    """
    seen = counts[counts > 0]
    shares = seen / seen.sum()
    return float(-(shares * np.log2(shares)).sum() + (len(seen) - 1) / (2 * seen.sum() * math.log(2)))
