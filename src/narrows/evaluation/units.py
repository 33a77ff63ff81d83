"""Units of the figures of `narrows evaluate`, by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["unit_of"]

UNITS = {
    "bits_per_dim": "bits/dim",
    "rate_bits_per_dim": "bits/dim",
    "distortion_bits_per_dim": "bits/dim",
    "importance_weighted_bits_per_dim": "bits/dim",
    "prior_rate_bits_per_dim": "bits/dim",
    "prior_bits_per_dim": "bits/dim",
    "codes_bits_per_dim": "bits/dim",
    "data_given_codes_bits_per_dim": "bits/dim",
    "prior_bits_per_code": "bits/code",
    "bits_per_code": "bits/code of the first stage",
    "bits_per_code_swapped": "bits/code of the first stage",
    "bits_per_code_with_latents": "bits/code of the first stage",
    "bits_per_second": "bits/s",
    "log_likelihood": "nats",
    "squared_error": "summed over an example",
    "perplexity": "codes",
    "usage": "of 1",
    "frechet_reconstructions": "squared distance of features",
    "frechet_samples": "squared distance of features",
}
"""Units of the figures that all modalities share."""


def unit_of(name: str, others: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return the unit of a figure, such as "bits/dim", "dB" or, for a share, "of 1".

    Args:
        name: name of the figure. The part after a comma states what it was measured on ("accuracy, unseen clips"),
            except for the rate of a layer, whose name ends in its unit ("rate of 8x8 layer 1, nats"). A figure of one
            step is named by what it is of, the figure and the step ("imagined_psnr_10").
        others: units of the modality's own figures.

    Returns:
        the unit; "" for an unknown name, such as one from another version's file.
    """
    own, _, rest = name.partition(", ")
    if own.startswith("rate of ") and rest == "nats":
        return "nats"
    units, step = {**UNITS, **others}, re.fullmatch(r"[a-z]+_(\w+)_\d+", own)
    return units.get(own, units.get(step[1], "") if step else "")
