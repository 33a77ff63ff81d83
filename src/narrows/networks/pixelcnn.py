"""Gated PixelCNN: the logits of every code of a 2-D grid, each from the codes before it in row order.

van den Oord et al. 2016, "Conditional image generation with PixelCNN decoders", figure 2 and equations 4 and 5. A
masked convolution is an ordinary one over the unmasked part of the kernel, on an input padded so that no later code is
in reach.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["CodeHead", "GatedLayer", "PixelCNN", "gate"]


def gate(features: Tensor) -> Tensor:
    """Return tanh(-a / 2) sigmoid(b) of features [B, 2 C, ...] = [a, b], the gate of equation 2: [B, C, ...].

    tanh(-a / 2) = 1 - 2 sigmoid(a), so one sigmoid serves both halves; the weights before it learn sign and scale.
    """
    a, b = features.sigmoid().chunk(2, 1)
    return torch.addcmul(b, a, b, value=-2)


class GatedLayer(nn.Module):
    """Gated layer of both stacks (figure 2) with mask B: the kernels end at the position itself.

    The vertical stack reads `kernel_size` // 2 rows up and its own row, whose vertical features depend on the rows
    above alone. The horizontal stack reads as many columns to the left, its own column and, by a 1x1 link, the vertical
    features.

    Args:
        width: C, the channels of either stack.
        kernel_size: side of the square kernel that the mask cuts, odd.
        dropout: probability with which a gated feature of the horizontal stack is dropped in training.
    """

    def __init__(self, width: int, kernel_size: int, dropout: float) -> None:
        super().__init__()
        self.reach = kernel_size // 2
        # No biases: the class condition serves as one, and the layers after `project` have their own.
        self.vertical = nn.Conv2d(width, 2 * width, (self.reach + 1, kernel_size), padding=(0, self.reach), bias=False)
        self.link = nn.Conv2d(2 * width, 2 * width, 1, bias=False)
        self.horizontal = nn.Conv2d(width, 2 * width, (1, self.reach + 1), bias=False)
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Conv2d(width, 2 * width, 1, bias=False)
        # A gate scales a small input by a quarter: with a gain of 4 the signal of the vertical stack, which has no
        # residual connection, neither vanishes nor explodes over the layers.
        for convolution, gain in ((self.vertical, 4), (self.link, 1), (self.horizontal, 1)):
            nn.init.normal_(convolution.weight, std=gain * convolution.weight[0].numel() ** -0.5)

    def forward(self, vertical: Tensor, horizontal: Tensor, condition: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the input of both stacks for the next layer and the skip connection of this one, each [B, C, H, W].

        Args:
            vertical: input of the vertical stack, [B, C, H, W].
            horizontal: input of the horizontal stack, [B, C, H, W].
            condition: terms of the gates, [B, 4 C, H, W] or [B, 4 C, 1, 1]: first those of the vertical, then those of
                the horizontal stack (equations 4 and 5).
        """
        above, here = condition.chunk(2, 1)
        down = self.vertical(F.pad(vertical, (0, 0, self.reach, 0))) + above
        across = self.horizontal(F.pad(horizontal, (self.reach, 0))) + self.link(down) + here
        residual, skip = self.project(self.dropout(gate(across))).chunk(2, 1)
        return gate(down), horizontal + residual, skip


class CodeHead(nn.Module):
    """Logits of the M codes of a position, each given the position's earlier codes: a ReLU network of 1x1 convolutions.

    An embedding of each code is added to the hidden features of the codes after it.

    Args:
        width: C, the channels of the input features.
        hidden: D, hidden features of each code.
        codebooks: M, the codes per position.
        codebook_size: K, the values a code can take.
    """

    def __init__(self, width: int, hidden: int, codebooks: int, codebook_size: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, codebooks * hidden)
        self.earlier = cast(
            Sequence[nn.Embedding], nn.ModuleList(nn.Embedding(codebook_size, hidden) for _ in range(codebooks - 1))
        )
        self.weight = nn.Parameter(torch.randn(codebooks, hidden, codebook_size) * hidden**-0.5)
        self.bias = nn.Parameter(torch.zeros(codebooks, codebook_size))

    def forward(self, features: Tensor, codes: Tensor) -> Tensor:
        """Return logits [B, H, W, M, K] from features [B, H, W, C] and codes [B, H, W, M]."""
        hidden = self.hidden(features.relu()).unflatten(-1, (len(self.weight), -1))
        for m, embedding in enumerate(self.earlier):
            hidden[..., m + 1 :, :] += embedding(codes[..., m]).unsqueeze(-2)
        by_code = hidden.relu().flatten(0, 2).transpose(0, 1)
        logits = torch.baddbmm(self.bias[:, None], by_code, self.weight)
        return logits.transpose(0, 1).contiguous().unflatten(0, codes.shape[:3])


class PixelCNN(nn.Module):
    """Gated PixelCNN over codes [B, H, W, M]: a convolution with mask A, gated layers with mask B, and a head.

    The logits at a position depend on all codes of a window, with no blind spot, and on no others: the `reach` rows
    above it, in them `reach` columns to either side, `reach` columns to the left in its own row, and the earlier codes
    of the position itself, where `reach` = `first_kernel_size` // 2 + `layers` (`kernel_size` // 2). They also depend
    on the features of its own row and of the n = (`layers` - 1) (`kernel_size` // 2) rows above it, in all of them n
    columns to either side: unlike codes, features may be those of later positions of the row.

    Args:
        codebooks: M, the codes per position, each with its own embedding.
        codebook_size: K, the values a code can take.
        classes: number of labels; 1 for an unconditional network.
        layers: number of gated layers.
        width: C, the channels of either stack.
        kernel_size: side of the masked square kernels of the gated layers, odd.
        first_kernel_size: side of the masked square kernel of the first convolution, odd.
        head_width: D, hidden features of the head for each code.
        dropout: probability with which a gated feature of the horizontal stack is dropped in training.
        channels: features of each position to condition on; 0 for none.
    """

    def __init__(
        self,
        codebooks: int,
        codebook_size: int,
        classes: int,
        layers: int,
        width: int,
        kernel_size: int,
        first_kernel_size: int,
        head_width: int,
        dropout: float,
        channels: int = 0,
    ) -> None:
        super().__init__()
        self.first_reach = first_kernel_size // 2
        self.reach = self.first_reach + layers * (kernel_size // 2)
        self.embeddings = cast(
            Sequence[nn.Embedding], nn.ModuleList(nn.Embedding(codebook_size, width) for _ in range(codebooks))
        )
        self.above = nn.Conv2d(
            width, width, (self.first_reach, first_kernel_size), padding=(0, self.first_reach), bias=False
        )
        self.left = nn.Conv2d(width, width, (1, self.first_reach), bias=False)
        self.condition = nn.Embedding(classes, layers * 4 * width)
        nn.init.zeros_(self.condition.weight)
        self.layers = cast(
            Sequence[GatedLayer], nn.ModuleList(GatedLayer(width, kernel_size, dropout) for _ in range(layers))
        )
        self.head = CodeHead(width, head_width, codebooks, codebook_size)
        self.local = nn.Conv2d(channels, layers * 4 * width, 1, bias=False) if channels else None
        if self.local is not None:
            nn.init.zeros_(self.local.weight)

    def embed(self, codes: Tensor) -> Tensor:
        """Return the sum of the embeddings of the M codes of each position, [B, H, W, C]."""
        embedded = [embedding(code) for embedding, code in zip(self.embeddings, codes.unbind(-1), strict=True)]
        return torch.stack(embedded).sum(0)

    def conditions(self, labels: Tensor, features: Tensor | None = None) -> Iterator[Tensor]:
        """Yield the terms of the gates of each layer, [B, 4 C, 1, 1], or with features [B, 4 C, H, W]."""
        constants = self.condition(labels)[..., None, None].chunk(len(self.layers), 1)
        if self.local is None or features is None:
            yield from constants
            return
        # Layer by layer, so that the terms of all layers are never in memory at once.
        for constant, weight in zip(constants, self.local.weight.chunk(len(self.layers)), strict=True):
            yield constant + F.conv2d(features, weight)

    def forward(self, codes: Tensor, labels: Tensor, features: Tensor | None = None) -> Tensor:
        """Return logits [B, H, W, M, K] of codes [B, H, W, M].

        Args:
            codes: [B, H, W, M].
            labels: int64 [B].
            features: [B, channels, H, W], where H and W may be 1 to broadcast; None for a network without.
        """
        embedded = self.embed(codes).permute(0, 3, 1, 2)  # channels last in memory, and so all that follows
        vertical = self.above(F.pad(embedded, (0, 0, self.first_reach, -1)))
        horizontal = self.left(F.pad(embedded, (self.first_reach, -1)))
        skips = []
        for layer, condition in zip(self.layers, self.conditions(labels, features), strict=True):
            vertical, horizontal, skip = layer(vertical, horizontal, condition)
            skips.append(skip)
        features = horizontal + torch.stack(skips).sum(0)
        return self.head(features.permute(0, 2, 3, 1), codes)
