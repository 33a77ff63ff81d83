"""Reading numbers of a device on the host, which otherwise waits until all queued work is done.

Training steps avoid such waits, so that the host stays ahead of the device. Values on a CPU can be read at no cost.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["LateReader", "is_on_host"]

HOST = "cpu"
"""The type of device whose memory the host can read directly."""


def is_on_host(tensor: Tensor) -> bool:
    """Return whether the values of a tensor can be read without waiting for a device."""
    return tensor.device.type == HOST


class LateReader:
    """Reads numbers of a device one call late, when they have long been copied.

    Numbers on a CPU are read at once. A copied or unpickled reader starts empty.
    """

    def __init__(self) -> None:
        self._sent: tuple[Tensor, torch.Event] | None = None

    def __call__(self, values: Tensor) -> list[float] | None:
        """Return `values` [n] if they are on a CPU; otherwise those of the previous call, or None at the first."""
        if is_on_host(values):
            return values.tolist()
        before, copy = self._sent, values.detach().clone().to("cpu", non_blocking=True)
        event = torch.Event(device=values.device)
        event.record()
        self._sent = copy, event
        if before is None:
            return None
        copy, event = before
        event.synchronize()
        return copy.tolist()

    def __reduce__(self) -> tuple[type[LateReader], tuple[()]]:
        return LateReader, ()
