"""The two halves of a model as modules of their own, to be exported: to ONNX, by `torch.export` or TorchScript.

    encoder = CodesOf(model)
    torch.onnx.export(encoder, (x,), "encoder.onnx", dynamo=True, dynamic_shapes=({0: torch.export.Dim("batch")},))

Batch, height and width may be dynamic where the networks are convolutions. What is exported does not check its inputs.
"""

from __future__ import annotations

from torch import Tensor, nn

from narrows.models.autoencoder import Autoencoder

__all__ = ["CodesOf", "DataOf"]


class CodesOf(nn.Module):
    """Data x [B, C, *size] -> codes, int64 [B, *grid] or [B, *grid, M]; a continuous model's mean latents.

    Args:
        model: put into evaluation mode.
    """

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.model = model
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Return what `model.encode` does."""
        return self.model.encode(x)


class DataOf(nn.Module):
    """Codes, as `CodesOf` gives them -> the mean of p(x|z), [B, C, *size].

    Args:
        model: put into evaluation mode; its decoder must give all at once, not draw sample by sample.
    """

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.model = model
        self.eval()

    def forward(self, codes: Tensor) -> Tensor:
        """Return what `model.decode` does."""
        return self.model.decode(codes)
