"""The most memory a run has held so far, on whatever it computes."""

from __future__ import annotations

import resource
import sys

import torch

__all__ = ["peak_memory_mib"]


def peak_memory_mib(device: torch.device) -> float:
    """The peak in MiB: of the tensors on a GPU, else of the whole process, data and libraries included."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2 ** (20 if sys.platform == "darwin" else 10)
