"""WaveNet as a prior over sequences of codes, such as those of sound: dilated causal convolutions over the codes.

van den Oord et al. 2017, "Neural discrete representation learning", section 3.3. The M codes of a position follow one
another, each told by its place in the position and read as a level of its own codebook.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from narrows.errors import NarrowsError
from narrows.networks.wavenet import WaveNet, WaveNetState
from narrows.priors.prior import CodeSpec, Prior

__all__ = ["WaveNetPrior"]


class WaveNetPrior(Prior):
    """WaveNet over a grid of (N,) positions; see `narrows.networks.wavenet.WaveNet`.

    A code is given the `receptive_field` codes before it, 1 + `stacks` (`kernel_size` - 1) (2^`layers` - 1), and its
    label.

    Args:
        spec: the codes to model, on a grid of one dimension.
        channels: C, of the residual stream and of a layer's gated features.
        skip_channels: channels of the head.
        stacks: how often the dilations start again from 1.
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
            local_channels=spec.codebooks if spec.codebooks > 1 else 0,
            global_channels=spec.classes,
        )

    def logits(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """Unnormalised log p(code | earlier codes, label), [B, N, M, K], of all codes at once."""
        codes = self.check_codes(codes)
        levels = codes + torch.arange(self.codebooks, device=codes.device) * self.codebook_size
        logits = self.network(levels.flatten(1), *self._features(labels, len(codes)))
        return logits.transpose(1, 2).unflatten(1, codes.shape[1:])

    @torch.no_grad()
    def begin(self, batch: int, labels: Tensor | None = None) -> WaveNetState:
        """What `batch` empty examples keep, to be used before the weights change; steps give no gradient."""
        return self.network.begin(batch, *self._features(labels, batch))

    def step(self, state: WaveNetState, previous: Tensor | None) -> Tensor:
        """Take in the code before ([B]; None at the first) and return the logits of the next code, [B, K].

        Raises:
            NarrowsError: if `previous` is other than None at the first code, or None at another, or all are drawn.
        """
        if state.time == self.length:
            raise NarrowsError(f"all {self.length} codes are drawn: call begin() for new examples")
        if (previous is None) != (state.time == 0):
            raise NarrowsError("step() takes None at the first code and the code before at every other")
        if previous is not None:
            previous = previous + (state.time - 1) % self.codebooks * self.codebook_size
        return state.step(previous)

    def _features(self, labels: Tensor | None, batch: int) -> tuple[Tensor | None, Tensor | None]:
        """The place of each code in its position, [B, M, N M], where M > 1; the label, [B, classes], where given."""
        weight = self.network.bias
        labels = self.check_labels(labels, batch)
        label = None if labels is None else F.one_hot(labels, self.classes).to(weight)
        if self.codebooks == 1:
            return None, label
        places = torch.eye(self.codebooks).to(weight).repeat(1, self.grid[0])
        return places.expand(batch, -1, -1), label
