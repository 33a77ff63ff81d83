"""Detection of tracing by PyTorch, for `torch.export`, ONNX or TorchScript.

A traced program must not depend on values or on the example's sizes, so chunked searches, range checks and statistics
are replaced by plain operations.
"""

from __future__ import annotations

import torch

__all__ = ["is_traced"]


def is_traced() -> bool:
    """Return whether the current call is being traced."""
    return torch.compiler.is_exporting() or torch.jit.is_tracing() or torch.onnx.is_in_onnx_export()
