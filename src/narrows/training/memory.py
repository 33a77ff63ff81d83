"""Peak memory of a run."""

from __future__ import annotations

import resource
import sys

import torch

__all__ = ["peak_memory_mib"]


def peak_memory_mib(device: torch.device) -> float:
    """Return the peak memory in MiB: that of the tensors on a GPU, otherwise that of the whole process.

    The latter includes data and libraries.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2 ** (20 if sys.platform == "darwin" else 10)
