"""Compilation of a training task by `torch.compile`."""

from __future__ import annotations

import torch
from torch import nn

from narrows.bottlenecks import VectorQuantizer
from narrows.errors import NarrowsError

__all__ = ["compile_task"]


def compile_task(task: nn.Module, device: torch.device) -> None:
    """Compile `task` in place, at its first call; the names of its weights stay as they are.

    Vector quantisers stay uncompiled: what a codebook learns branches on the data, which would break the graph at every
    turn.

    Raises:
        NarrowsError: if nothing can be compiled for the device.
    """
    try:
        # A result from the cache would hide that there is no compiler.
        torch.compile(torch.neg, options={"fx_graph_cache": False})(torch.zeros(2, device=device))
    except RuntimeError as error:
        needed = "Triton" if device.type == "cuda" else "a C++ compiler, such as g++"
        reason = str(error).strip().partition("\n")[0]
        raise NarrowsError(
            f"training.compile=true needs {needed}, and a trial of torch.compile failed ({reason}): install it, or set "
            "training.compile=false"
        ) from error
    for module in task.modules():
        if isinstance(module, VectorQuantizer):
            module.forward = torch.compiler.disable(module.forward)  # type: ignore[method-assign]
    # Batches of a run are all of one shape; a graph for any shape would be slower.
    task.compile(dynamic=False)
