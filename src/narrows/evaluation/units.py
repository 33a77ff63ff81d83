"""The unit of every figure that `narrows evaluate` gives, by its name."""

from __future__ import annotations

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
    "bits_per_second": "bits/s",
    "log_likelihood": "nats",
    "squared_error": "summed over an example",
    "perplexity": "codes",
    "usage": "of 1",
}
"""The units of figures of every kind of data."""


def unit_of(name: str, others: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return the unit of a figure, such as "bits/dim", "dB" or, of a share, "of 1".

    Args:
        name: the figure's name. What follows a comma says what it was measured on ("accuracy, unseen clips"), except in
            the rate of a layer, whose name ends in its unit ("rate of 8x8 layer 1, nats").
        others: the units of the figures that the kind of data has of its own.

    Returns:
        the unit; "" for a name that this version gives no figure, as the file of another version may hold.
    """
    own, _, rest = name.partition(", ")
    if own.startswith("rate of ") and rest == "nats":
        return "nats"
    return {**UNITS, **others}.get(own, "")
