"""The unit of every figure that `narrows evaluate` gives, by its name."""

from __future__ import annotations

__all__ = ["unit_of"]

UNITS = {
    "bits_per_dim": "bits/dim",
    "rate_bits_per_dim": "bits/dim",
    "distortion_bits_per_dim": "bits/dim",
    "importance_weighted_bits_per_dim": "bits/dim",
    "prior_rate_bits_per_dim": "bits/dim",
    "prior_bits_per_dim": "bits/dim",
    "bits_per_second": "bits/s",
    "log_likelihood": "nats",
    "squared_error": "summed over an image, pixels of 0 to 1",
    "mse": "mean over pixels of 0 to 1",
    "psnr": "dB",
    "ssim": "of 1",
    "perplexity": "codes",
    "usage": "of 1",
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


def unit_of(name: str) -> str:
    """Return the unit of a figure, such as "bits/dim", "dB" or, of a share, "of 1".

    Args:
        name: the figure's name. What follows a comma says what it was measured on ("accuracy, unseen clips"), except in
            the rate of a layer, whose name ends in its unit ("rate of 8x8 layer 1, nats").

    Returns:
        the unit; "" for a name that this version gives no figure, as the file of another version may hold.
    """
    own, _, rest = name.partition(", ")
    if own.startswith("rate of ") and rest == "nats":
        return "nats"
    return UNITS.get(own, "")
