"""Gated PixelCNN as a prior over 2-D codes: in parallel for training, one code at a time for sampling and coding.

van den Oord et al. 2016, "Conditional image generation with PixelCNN decoders". In steps, the vertical stack runs once
for each row and the horizontal stack once for each position, on caches of their earlier results.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from narrows.errors import NarrowsError
from narrows.networks.pixelcnn import PixelCNN, gate
from narrows.priors.condition import Condition
from narrows.priors.prior import CodeSpec, Prior

__all__ = ["GatedPixelCNN", "PixelCNNState"]


class GatedPixelCNN(Prior):
    """Gated PixelCNN over a grid of (H, W) positions; see `narrows.networks.pixelcnn.PixelCNN`.

    The features enter the gates of every layer by a 1x1 convolution (V * s of equation 5), which starts at zero, as the
    class terms do. A code depends on the features of its own position and of the positions around it in the same row,
    later ones included, and in the rows above.

    Args:
        spec: the codes to model, on a grid of two dimensions.
        layers: number of gated layers.
        width: C, channels of the vertical and of the horizontal stack.
        kernel_size: side of the masked kernels of the gated layers, odd; each layer widens the receptive field by half.
        first_kernel_size: side of the masked kernel of the first convolution, odd.
        head_width: hidden features of the output head for each code.
        dropout: probability with which a gated feature of the horizontal stack is dropped in training.

    Raises:
        NarrowsError: if the grid is not two-dimensional, a kernel size is even or below 3, or another size is below 1.
    """

    def __init__(
        self,
        spec: CodeSpec,
        layers: int = 15,
        width: int = 64,
        kernel_size: int = 3,
        first_kernel_size: int = 7,
        head_width: int = 128,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(spec)
        if not 0 <= dropout < 1:
            raise NarrowsError(f"dropout must be at least 0 and below 1, not {dropout}")
        if len(spec.grid) != 2:
            suited = "WaveNetPrior or TransformerPrior" if len(spec.grid) == 1 else "TransformerPrior"
            raise NarrowsError(f"a PixelCNN models codes on a grid (rows, columns), got {spec.grid}: use {suited}")
        if min(layers, width, head_width) < 1:
            raise NarrowsError(f"layers, width and head_width must be at least 1, got {layers}, {width}, {head_width}")
        for name, size in (("kernel_size", kernel_size), ("first_kernel_size", first_kernel_size)):
            if size < 3 or size % 2 == 0:
                raise NarrowsError(f"{name} must be odd and at least 3, got {size}")
        self.network = PixelCNN(
            spec.codebooks,
            spec.codebook_size,
            max(1, spec.classes),
            layers,
            width,
            kernel_size,
            first_kernel_size,
            head_width,
            dropout,
            spec.channels,
        )

    def logits(self, codes: Tensor, condition: Condition | Tensor | None = None) -> Tensor:
        """Return the logits of p(code | codes before it, condition) of all codes at once, [B, H, W, M, K]."""
        return self.network(self.check_codes(codes), *self._condition(condition, len(codes)))

    @torch.no_grad()
    def begin(
        self, batch: int, condition: Condition | Tensor | None = None, past: Tensor | None = None
    ) -> PixelCNNState:
        """Return the state of `batch` examples after the codes of `past`, [B, n], which are appended one by one."""
        past = self.check_past(past, batch)
        height, width = self.grid
        state = PixelCNNState(self.network, height, width, *self._condition(condition, batch))
        state.append(past)
        return state

    def step(self, state: PixelCNNState, previous: Tensor | None) -> Tensor:
        """Append a code, [B] (None at the first step), and return the logits of the next code, [B, K]."""
        return state.step(previous)

    def _condition(self, condition: Condition | Tensor | None, batch: int) -> tuple[Tensor, Tensor | None]:
        """Return the labels, zeros for a prior without classes, and the features."""
        labels, features = self.check_condition(condition, batch)
        if labels is None:
            labels = torch.zeros(batch, dtype=torch.long, device=self.network.condition.weight.device)
        return labels, features


class PixelCNNState:
    """A batch of grids filled code by code: the caches of both stacks, and the weights rearranged for steps.

    Args:
        network: the network to run.
        height: H, the rows of the grid.
        width: W, the columns of the grid.
        labels: int64 [B].
        features: [B, channels, H, W], where H and W may be 1 to broadcast; None for a network without.
    """

    def __init__(
        self, network: PixelCNN, height: int, width: int, labels: Tensor, features: Tensor | None = None
    ) -> None:
        layers, first, reach = network.layers, network.first_reach, network.layers[0].reach
        depth, channels, batch = len(layers), network.left.in_channels, len(labels)
        zeros = network.left.weight.new_zeros
        self.network = network
        self.codebooks = len(network.embeddings)
        self.width = width
        self.length = height * width * self.codebooks
        self.index = self.first = 0

        # Caches, with margins for the kernels. The rows above, as embeddings, and the input of each vertical layer for
        # the rows above and, as the last, this row:
        self.embedded = zeros(batch, first, first + width + first, channels)
        self.vertical = zeros(depth, batch, reach + 1, reach + width + reach, channels)
        # This row: its codes, the terms of each layer from above, the horizontal features before and after each layer:
        self.codes = torch.zeros(width * self.codebooks, batch, dtype=torch.long, device=labels.device)
        across = zeros(depth, batch, width, 2 * channels)
        self.horizontal = zeros(depth + 1, batch, reach + width + first, channels)
        # This position:
        self.gates = zeros(batch, depth * channels)
        self.hidden = zeros(batch, network.head.hidden.out_features)

        # Weights as matrices. A table holds, for each code, its terms at the `first` positions after it.
        self.above = _matrix(network.above)
        left = network.left.weight[:, :, 0].flip(-1).permute(1, 2, 0).flatten(1)
        self.tables = [embedding.weight @ left for embedding in network.embeddings]
        projections = [_matrix(layer.project).chunk(2, 1) for layer in layers]
        self.skips = torch.cat([skip for _, skip in projections])
        head = network.head
        self.hidden_weight, self.hidden_bias = head.hidden.weight.t().contiguous(), head.hidden.bias.detach()
        self.earlier = [embedding.weight.detach() for embedding in head.earlier]

        # The terms of the gates in a row: constant, or with features computed when a row begins.
        constants = [term.flatten(1).repeat_interleave(width, 0) for term in network.conditions(labels)]
        conditions = constants
        self.local: list[tuple[Tensor, Tensor, Tensor]] = []
        if network.local is not None and features is not None:
            self.features = self._by_row(features)
            conditions = [torch.empty_like(constant) for constant in constants]
            weights = _matrix(network.local).chunk(depth, 1)
            self.local = list(zip(constants, weights, conditions, strict=True))

        # The views and weights that a row, a position and a code need, made once: a view costs as much as arithmetic.
        self.rows = [
            (
                cache[:, -1, reach:-reach],
                _windows(cache, 2 * reach + 1),
                _matrix(layer.vertical),
                _matrix(layer.link),
                *condition.chunk(2, 1),
                out,
            )
            for cache, layer, condition, out in zip(
                self.vertical, layers, conditions, across.flatten(1, 2), strict=True
            )
        ]
        mixes = [_matrix(layer.horizontal) for layer in layers]
        residuals = [residual.contiguous() for residual, _ in projections]
        gates = self.gates.chunk(depth, 1)
        self.positions: list[list[tuple[Tensor, ...]]] = []
        for column in range(width):
            features = across[:, :, column]
            switches, values = features.chunk(2, 2)
            windows = self.horizontal[:-1, :, column : column + reach + 1].flatten(2)
            here = self.horizontal[:, :, column + reach]
            views = (windows, mixes, features, switches, values, gates, here[:-1], residuals, here[1:])
            self.positions.append(list(zip(*views, strict=True)))
        ahead = self.horizontal[0, :, reach + 1 :]
        self.ahead = [ahead[:, column : column + first].flatten(1) for column in range(width)]
        hidden = self.hidden.unflatten(1, (self.codebooks, -1))
        self.heads = list(zip(head.bias.detach(), hidden.unbind(1), head.weight.detach(), strict=True))
        self.later = [hidden[:, code + 1 :] for code in range(self.codebooks)]
        self.slots = self.codes.unbind()

    def restart(self, features: Tensor) -> None:
        """Begin empty grids with the same labels and other features, [B, channels, H, W], for a network with them."""
        self.features = self._by_row(features)
        self.embedded.zero_()
        self.vertical.zero_()
        self.index = self.first = 0

    def append(self, codes: Tensor) -> None:
        """Append codes [B, n] without computing their logits; the next step is a first step again."""
        for code in codes.unbind(1):
            self._advance()
            self._write(code)
        self.first = self.index

    def step(self, previous: Tensor | None) -> Tensor:
        """Append a code, [B] (None at the first step), and return the logits of the next code, [B, K].

        Raises:
            NarrowsError: if `previous` is given at the first step or None at a later one, or the grids are full.
        """
        if self.index == self.length:
            raise NarrowsError(f"all {self.length} codes are drawn: call begin() for new examples")
        if (previous is None) != (self.index == self.first):
            raise NarrowsError("pass None at the first step after begin() and the previous code at every later one")
        if previous is not None:
            self._write(previous)
        bias, hidden, weight = self.heads[self._advance()]
        return torch.addmm(bias, hidden.relu(), weight)

    def _by_row(self, features: Tensor) -> Tensor:
        """Return features [B, channels, H, W], where H and W may be 1, as [H, B W, channels]."""
        height = self.length // self.width // self.codebooks
        return features.expand(-1, -1, height, self.width).permute(2, 0, 3, 1).flatten(1, 2)

    def _advance(self) -> int:
        """Compute the hidden features of the next code, and return its index among those of its position."""
        position, code = divmod(self.index, self.codebooks)
        self.index += 1
        if code == 0:
            row, column = divmod(position, self.width)
            if column == 0:
                self._begin_row(row)
            self._read(column)
        return code

    def _write(self, previous: Tensor) -> None:
        """Write the code that `_advance` reached to the caches that later codes read."""
        slot = (self.index - 1) % len(self.slots)
        column, code = divmod(slot, self.codebooks)
        self.slots[slot].copy_(previous)
        self.ahead[column].add_(self.tables[code].index_select(0, previous))
        if code + 1 < self.codebooks:
            self.later[code].add_(self.earlier[code][previous].unsqueeze(1))

    @torch.no_grad()
    def _begin_row(self, row: int) -> None:
        """Run the vertical stack over a new row, given all rows above."""
        first, batch = self.embedded.shape[1], len(self.gates)
        if row > 0:
            codes = self.codes.t().reshape(batch, 1, self.width, self.codebooks)
            self.embedded[:, :-1] = self.embedded[:, 1:].clone()
            self.embedded[:, -1:, first:-first] = self.network.embed(codes)
            self.vertical[:, :, :-1] = self.vertical[:, :, 1:].clone()
        for constant, weight, condition in self.local:
            torch.addmm(constant, self.features[row], weight, out=condition)
        self.horizontal[0].zero_()
        vertical = _windows(self.embedded, 2 * first + 1).reshape(batch * self.width, -1) @ self.above
        for here, window, mix, link, above, beside, across in self.rows:
            here.copy_(vertical.view_as(here))
            down = torch.addmm(above, window.reshape(batch * self.width, -1), mix)
            torch.addmm(beside, down, link, out=across)
            vertical = gate(down)

    def _read(self, column: int) -> None:
        """Run the horizontal stack and the head's hidden layer at one position."""
        for window, mix, features, a, b, gated, here, residual, after in self.positions[column]:
            features.addmm_(window, mix).sigmoid_()
            torch.addcmul(b, a, b, value=-2, out=gated)
            torch.addmm(here, gated, residual, out=after)
        read = torch.addmm(after, self.gates, self.skips).relu_()
        torch.addmm(self.hidden_bias, read, self.hidden_weight, out=self.hidden)


def _matrix(convolution: nn.Conv2d) -> Tensor:
    """Return a convolution's weights as a matrix from the features under its kernel, row by row, to its outputs."""
    return convolution.weight.permute(2, 3, 1, 0).flatten(0, 2).contiguous()


def _windows(rows: Tensor, size: int) -> Tensor:
    """Return the features of rows [B, R, W + `size` - 1, C] under a kernel at each column: [B, W, R, `size`, C]."""
    return rows.unfold(2, size, 1).permute(0, 2, 1, 4, 3)
