"""The two halves of a model as modules that can be exported: to ONNX, by `torch.export` or to TorchScript.

    encoder = CodesOf(model)
    torch.onnx.export(encoder, (x,), "encoder.onnx", dynamo=True, dynamic_shapes=({0: torch.export.Dim("batch")},))

Batch, height and width may be dynamic if the networks are convolutional. Exported modules do not check their inputs.
"""

from __future__ import annotations

from torch import Tensor, nn

from narrows.models.autoencoder import Autoencoder

__all__ = ["CodesOf", "DataOf"]


class CodesOf(nn.Module):
    """Maps data x [B, C, *size] to codes, int64 [B, *grid] or [B, *grid, M], or to a continuous model's mean latents.

    Args:
        model: the model, which is put into eval mode.
    """

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.model = model
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Return the same as `model.encode`."""
        return self.model.encode(x)


class DataOf(nn.Module):
    """Maps codes, as `CodesOf` returns them, to the mean of p(x|z), [B, C, *size].

    Args:
        model: the model, which is put into eval mode; its decoder must not be autoregressive.
    """

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.model = model
        self.eval()

    def forward(self, codes: Tensor) -> Tensor:
        """Return the same as `model.decode`."""
        return self.model.decode(codes)
