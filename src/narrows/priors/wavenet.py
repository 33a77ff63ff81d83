"""WaveNet as a prior over sequences of codes: dilated causal convolutions over the codes.

van den Oord et al. 2017, "Neural discrete representation learning", section 3.3. The M codes of a position follow one
another; each codebook has levels of its own, and a local feature of each code is the index of its codebook.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from narrows.errors import NarrowsError
from narrows.networks.wavenet import WaveNet, WaveNetState
from narrows.priors.condition import Condition
from narrows.priors.prior import CodeSpec, Prior

__all__ = ["WaveNetPrior"]


class WaveNetPrior(Prior):
    """WaveNet over a grid of (N,) positions; see `narrows.networks.wavenet.WaveNet`.

    A code depends on the `receptive_field` codes before it, 1 + `stacks` (`kernel_size` - 1) (2^`layers` - 1), on the
    label, and on the features of its own position and of earlier positions that the layers after the first read.

    Args:
        spec: the codes to model, on a grid of one dimension.
        channels: channels of the residual stream and of a layer's gated features.
        skip_channels: channels of the head.
        stacks: number of stacks; the dilations of each start again from 1.
        layers: layers of a stack, each with twice the dilation of the one before.
        kernel_size: taps of a dilated convolution, at least 2.

    Raises:
        NarrowsError: if the grid is not one-dimensional, or a size is too small.
    """

    def __init__(
        self,
        spec: CodeSpec,
        channels: int = 64,
        skip_channels: int = 128,
        stacks: int = 3,
        layers: int = 10,
        kernel_size: int = 2,
    ) -> None:
        super().__init__(spec)
        if len(spec.grid) != 1:
            suited = "GatedPixelCNN or TransformerPrior" if len(spec.grid) == 2 else "TransformerPrior"
            raise NarrowsError(f"a WaveNet models codes on a grid (positions,), got {spec.grid}: use {suited}")
        self.network = WaveNet(
            spec.codebooks * spec.codebook_size,
            spec.codebook_size,
            channels,
            skip_channels,
            stacks,
            layers,
            kernel_size,
            local_channels=(spec.codebooks if spec.codebooks > 1 else 0) + spec.channels,
            global_channels=spec.classes,
        )

    def logits(self, codes: Tensor, condition: Condition | Tensor | None = None) -> Tensor:
        """Return the logits of p(code | codes before it, condition) of all codes at once, [B, N, M, K]."""
        codes = self.check_codes(codes)
        levels = codes + torch.arange(self.codebooks, device=codes.device) * self.codebook_size
        logits = self.network(levels.flatten(1), *self._condition(condition, len(codes)))
        return logits.transpose(1, 2).unflatten(1, codes.shape[1:])

    @torch.no_grad()
    def begin(
        self, batch: int, condition: Condition | Tensor | None = None, past: Tensor | None = None
    ) -> WaveNetState:
        """Return the state of `batch` examples after the codes of `past`, [B, n], which are appended one by one."""
        past = self.check_past(past, batch)
        state = self.network.begin(batch, *self._condition(condition, batch))
        state.append(self._level(code, n) for n, code in enumerate(past.unbind(1)))
        return state

    def step(self, state: WaveNetState, previous: Tensor | None) -> Tensor:
        """Append a code, [B] (None at the first step), and return the logits of the next code, [B, K].

        Raises:
            NarrowsError: if `previous` is given at the first step or None at a later one, or the examples are complete.
        """
        if state.time == self.length:
            raise NarrowsError(f"all {self.length} codes are drawn: call begin() for new examples")
        if (previous is None) != (state.time == state.first):
            raise NarrowsError("pass None at the first step after begin() and the previous code at every later one")
        if previous is not None:
            previous = self._level(previous, state.time - 1)
        return state.step(previous)

    def _level(self, code: Tensor, n: int) -> Tensor:
        """Return the levels of the codes at index n of each example, [B]."""
        return code + n % self.codebooks * self.codebook_size

    def _condition(self, condition: Condition | Tensor | None, batch: int) -> tuple[Tensor | None, Tensor | None]:
        """Return the local features of each code, [B, L, N M], and the one-hot label, [B, classes], or None for each.

        The local features are the index of the codebook, one-hot, with M > 1, then the features of the position.
        """
        weight = self.network.bias
        labels, features = self.check_condition(condition, batch)
        label = None if labels is None else F.one_hot(labels, self.classes).to(weight)
        local = []
        if self.codebooks > 1:
            books = torch.eye(self.codebooks).to(weight).repeat(1, self.grid[0])
            local.append(books.expand(batch, -1, -1))
        if features is not None:
            local.append(features.expand(-1, -1, *self.grid).repeat_interleave(self.codebooks, 2))
        return (torch.cat(local, 1) if local else None), label
