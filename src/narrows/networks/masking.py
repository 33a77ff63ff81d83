"""Convolutions and norms over padded sequences of different lengths, in which padding affects no output that counts.

Positions that do not count are set to zero before every convolution, so a sequence sees the same zeros beyond its end
as it would alone; norms average over the positions that count.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.distributed.nn.functional
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["MaskedResidual", "coarser", "masked_instance_norm", "run_masked", "zeroed"]


def zeroed(x: Tensor, mask: Tensor | None) -> Tensor:
    """Return x [B, C, T] with zeros where the mask, bool [B, T], is False; None means no mask."""
    if mask is None or _all_count(mask):
        return x
    return x.where(mask.unsqueeze(1), 0)


def _all_count(mask: Tensor) -> bool:
    """Return whether all positions count, if asking costs little: a GPU would have to finish its work first.

    Most batches of equal windows have no padding, and `where` costs as much as a third of the convolutions.
    """
    return mask.device.type == "cpu" and not torch.compiler.is_compiling() and bool(mask.all())


def coarser(mask: Tensor | None, stride: int) -> Tensor | None:
    """Return the mask [B, T / stride] of positions that cover `stride` each; one counts if any that it covers does."""
    return None if mask is None else mask.unflatten(1, (-1, stride)).any(2)


def run_masked(layers: nn.Sequential, x: Tensor, mask: Tensor | None) -> Tensor:
    """Run convolutions, norms and residual blocks over x [B, C, T], where only positions in the mask [B, T] count.

    A convolution with stride s maps T positions to T / s, whatever padding layer precedes it.
    """
    if mask is None:
        return layers(x)
    for layer in layers:
        if isinstance(layer, nn.ConstantPad1d):
            x = layer(zeroed(x, mask))
        elif isinstance(layer, nn.Conv1d):
            x = layer(x if layer.stride[0] > 1 else zeroed(x, mask))
            mask = coarser(mask, layer.stride[0])
        elif isinstance(layer, MaskedResidual):
            x = layer(x, mask)
        elif isinstance(layer, _BatchNorm) and layer.training and mask is not None:
            x = _masked_batch_norm(layer, x, mask)
        else:
            x = layer(x)
    return zeroed(x, mask)


class MaskedResidual(nn.Module):
    """x + conv1(ReLU(conv3(ReLU(x)))), [B, width, T] -> [B, width, T].

    Args:
        width: channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.ReLU(), nn.Conv1d(width, width, 3, padding=1), nn.ReLU(), nn.Conv1d(width, width, 1)
        )

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Add the branch to x; only positions in the mask, bool [B, T], count."""
        return x + run_masked(self.branch, x, mask)


def masked_instance_norm(x: Tensor, mask: Tensor, epsilon: float = 1e-5) -> Tensor:
    """Normalise each channel of x [B, C, T] over the positions of its sequence that count."""
    weights = mask.unsqueeze(1).to(x.dtype)
    count = weights.sum(2, keepdim=True).clamp_min(1)
    mean = (x * weights).sum(2, keepdim=True) / count
    variance = ((x - mean).square() * weights).sum(2, keepdim=True) / count
    return (x - mean) * (variance + epsilon).rsqrt()


def _masked_batch_norm(norm: _BatchNorm, x: Tensor, mask: Tensor) -> Tensor:
    """Apply a training-mode batch norm to x [B, C, T], with means over the counting positions of the global batch."""
    weights = mask.unsqueeze(1).to(torch.float32)
    values = x.float()
    count = _global(weights.sum())
    mean = _global((values * weights).sum((0, 2))) / count
    centred = values - mean.unsqueeze(1)
    variance = _global((centred.square() * weights).sum((0, 2))) / count
    if norm.running_mean is not None and norm.running_var is not None and norm.momentum is not None:
        with torch.no_grad():
            norm.running_mean.lerp_(mean, norm.momentum)
            norm.running_var.lerp_(variance * (count / (count - 1).clamp_min(1)), norm.momentum)
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked.add_(1)
    normalised = centred * (variance + norm.eps).rsqrt().unsqueeze(1)
    return (normalised * norm.weight.unsqueeze(1) + norm.bias.unsqueeze(1)).to(x.dtype)


def _global(values: Tensor) -> Tensor:
    """Return the sum over all processes, with its gradient."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        return torch.distributed.nn.functional.all_reduce(values)
    return values
