"""Compilation of a training task by `torch.compile`."""

from __future__ import annotations

import torch
from torch import nn

from narrows.bottlenecks import VectorQuantizer
from narrows.errors import NarrowsError

__all__ = ["compile_task"]


def compile_task(task: nn.Module, device: torch.device) -> None:
    """Set `task` to be compiled in place at its first call; the names of its weights do not change.

    Vector quantisers are not compiled: the updates of a codebook branch on the data and would break the graph often.

    Raises:
        NarrowsError: if a trial of `torch.compile` fails on the device.
    """
    try:
        # A cached result would hide a missing compiler.
        torch.compile(torch.neg, options={"fx_graph_cache": False})(torch.zeros(2, device=device))
    except RuntimeError as error:
        needed = "Triton" if device.type == "cuda" else "a C++ compiler, such as g++"
        reason = str(error).strip().partition("\n")[0]
        raise NarrowsError(
            f"training.compile=true needs {needed}, but a trial of torch.compile failed ({reason}): install it, or set "
            "training.compile=false"
        ) from error
    for module in task.modules():
        if isinstance(module, VectorQuantizer):
            module.forward = torch.compiler.disable(module.forward)  # type: ignore[method-assign]
    # All batches of a run have one shape, and a graph for any shape would be slower.
    task.compile(dynamic=False)
