"""Whether a program is being written down by PyTorch: for `torch.export`, ONNX or TorchScript.

What is written down must not depend on values or on the sizes of the example: searches in chunks, checks of ranges and
statistics give way to plain operations.
"""

from __future__ import annotations

import torch

__all__ = ["is_traced"]


def is_traced() -> bool:
    """Return whether the operations of this call are being recorded."""
    return torch.compiler.is_exporting() or torch.jit.is_tracing() or torch.onnx.is_in_onnx_export()
