"""Units of the figures that exist for sound only, by name."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["UNITS"]

UNITS: Mapping[str, str] = {
    "log_mel_db": "dB",
    "log_mel_shuffled_db": "dB",
    "reconstructed": "clips",
    "accuracy": "of 1",
    "most_frequent": "of 1",
    "shuffled": "of 1",
    "unknown": "of 1",
    "mutual_information_bits": "bits/frame",
    "mutual_information_shuffled_bits": "bits/frame",
    "phoneme_bits": "bits/frame",
    "phonemes": "phonemes",
    "frames": "frames",
    "clips": "clips",
}
