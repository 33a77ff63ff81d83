"""Numbers of a device that the host asks for: a question makes the host wait until all that was queued is done.

A training step asks none, so that the host stays ahead of the device. What lies on a CPU may be read at no cost.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["LateReader", "is_on_host"]

HOST = "cpu"
"""The type of device whose memory the host reads."""


def is_on_host(tensor: Tensor) -> bool:
    """Return whether the values of a tensor can be read without waiting for a device."""
    return tensor.device.type == HOST


class LateReader:
    """Reads the numbers that a device had at the call before, by when they have long been copied.

    Numbers on a CPU are read at once. A copy of a reader, or one from a file, has read nothing yet.
    """

    def __init__(self) -> None:
        self._sent: tuple[Tensor, torch.Event] | None = None

    def __call__(self, values: Tensor) -> list[float] | None:
        """Return values [n], or off a CPU those of the call before, None at the first."""
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
