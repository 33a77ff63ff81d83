"""Memory measurement shared by the benchmarks: the peak memory of an action beyond what the process held before.

On Linux this is resident memory, with its peak reset through /proc/self/clear_refs; on CUDA, the allocator's memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import torch

__all__ = ["peak_mib"]


def peak_mib(action: Callable[[], object], device: str) -> float:
    """Return the peak memory of an action in MiB; warm up libraries first, since they allocate at their first call."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        action()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    Path("/proc/self/clear_refs").write_text("5")
    before = _resident_kib("VmRSS")
    action()
    return (_resident_kib("VmHWM") - before) / 1024


def _resident_kib(field: str) -> int:
    """Return a field of /proc/self/status."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if found is None:
        raise RuntimeError(f"/proc/self/status has no {field}: memory can only be measured on Linux")
    return int(found[1])
