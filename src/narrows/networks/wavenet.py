"""WaveNet: dilated causal convolutions from the samples of a sequence to the distribution of the next one.

van den Oord et al. 2016, "WaveNet: A Generative Model for Raw Audio", sections 2.1 to 2.5. A step costs the work of one
sample: it caches the features that later samples read (Paine et al. 2016, "Fast Wavenet Generation Algorithm").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from narrows.errors import NarrowsError
from narrows.networks.pixelcnn import gate

__all__ = ["WaveNet", "WaveNetState"]


class WaveNet(nn.Module):
    """Map samples [B, inputs, T] to outputs [B, outputs, T] that depend on the `receptive_field` samples before alone.

    Samples may also be levels, integers [B, T] from 0 to `inputs` - 1, which stand for their one-hot vectors.

    The network has layers of gated units with residual and skip connections, dilated by 1, 2, 4, ..., 2^(`layers` - 1)
    in each stack, then a head of 1x1 convolutions. Every layer is padded with zeros before the first sample.

    Args:
        inputs: channels of a sample: 1 for its value, or one for each of its levels.
        outputs: channels of the output, such as one logit for each level.
        channels: C, channels of the residual stream and of a layer's gated features.
        skip_channels: channels of the head.
        stacks: number of stacks; the dilations of each start again from 1.
        layers: layers of a stack, each with twice the dilation of the one before.
        kernel_size: taps of a dilated convolution, at least 2.
        local_channels: L, features of each group of `hop` samples, such as the vectors of their codes; 0 for none.
        global_channels: G, features of a whole sequence, such as its speaker (one-hot); 0 for none.
        hop: consecutive samples that share a position of the local features.

    Attributes:
        spans: the number of samples back that each layer reads.

    Raises:
        NarrowsError: if a size is too small, or `hop` is set without local features.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        channels: int = 64,
        skip_channels: int = 128,
        stacks: int = 3,
        layers: int = 10,
        kernel_size: int = 2,
        local_channels: int = 0,
        global_channels: int = 0,
        hop: int = 1,
    ) -> None:
        super().__init__()
        _check_sizes(1, inputs=inputs, outputs=outputs, channels=channels, skip_channels=skip_channels)
        _check_sizes(1, stacks=stacks, layers=layers, hop=hop)
        _check_sizes(2, kernel_size=kernel_size)
        _check_sizes(0, local_channels=local_channels, global_channels=global_channels)
        if hop > 1 and not local_channels:
            raise NarrowsError(f"hop is {hop}, but there are no local features to share: set local_channels")
        self.local_channels, self.global_channels, self.hop = local_channels, global_channels, hop
        dilations = stacks * [2**layer for layer in range(layers)]
        depth, gates = len(dilations), 2 * channels
        self.spans = [(kernel_size - 1) * dilation for dilation in dilations]

        # To the residual stream: from the samples, then from the gated features of each layer but the last.
        projects = [nn.Conv1d(inputs, channels, 1)]
        projects += [nn.Conv1d(channels, channels, 1, bias=False) for _ in dilations[1:]]
        self.projects = cast(Sequence[nn.Conv1d], nn.ModuleList(projects))
        # From the stream to the gates of each layer. Biases and conditions of all layers are stored side by side.
        dilated = [nn.Conv1d(channels, gates, kernel_size, dilation=n, bias=False) for n in dilations]
        self.dilated = cast(Sequence[nn.Conv1d], nn.ModuleList(dilated))
        self.bias = nn.Parameter(torch.zeros(depth * gates))
        self.local = nn.Conv1d(local_channels, depth * gates, 1, bias=False) if local_channels else None
        self.whole = nn.Linear(global_channels, depth * gates, bias=False) if global_channels else None
        # The sum of the skip connections is one linear map of the gated features of all layers.
        self.skips = nn.Conv1d(depth * channels, skip_channels, 1)
        self.hidden = nn.Conv1d(skip_channels, skip_channels, 1)
        self.out = nn.Conv1d(skip_channels, outputs, 1)
        # Weights that preserve the scale of their input; a one-hot sample has all of it in one channel.
        for part in self.modules():
            if isinstance(part, nn.Conv1d | nn.Linear):
                nn.init.normal_(part.weight, std=part.weight[0].numel() ** -0.5)
        nn.init.normal_(self.projects[0].weight)

    @property
    def receptive_field(self) -> int:
        """The number of samples before t that the outputs at t depend on."""
        return 1 + sum(self.spans)

    def forward(self, x: Tensor, local: Tensor | None = None, global_: Tensor | None = None) -> Tensor:
        """Return outputs [B, outputs, T] for samples x; x is shifted here, so outputs at t do not depend on x at t.

        Args:
            x: samples to predict, [B, inputs, T], or their levels, int64 [B, T].
            local: features [B, L, T / hop].
            global_: features [B, G].

        Raises:
            NarrowsError: if features are missing, not expected, or of another shape.
        """
        self._check_features(len(x), local, global_)
        conditions = self._constant(len(x), global_).unsqueeze(2)
        if self.local is not None and local is not None:
            if local.shape[2] * self.hop != x.shape[-1]:
                raise NarrowsError(
                    f"{local.shape[2]} local features of hop = {self.hop} samples each do not fit {x.shape[-1]} "
                    "samples: cut them to a multiple of hop"
                )
            conditions = conditions + self.local(local)
        by_layer = conditions.unsqueeze(3).chunk(len(self.spans), 1)
        hidden, gated = self._enter(x), None
        # Summed layer by layer, so that the gated features of all layers are never in memory at once.
        read: Tensor | float = 0.0
        skips = self.skips.weight.chunk(len(self.spans), 1)
        for span, project, dilated, condition, skip in zip(
            self.spans, self.projects, self.dilated, by_layer, skips, strict=True
        ):
            if gated is not None:
                hidden = hidden + project(gated)
            gates = dilated(F.pad(hidden, (span, 0)))
            # Samples that share a condition get an axis of their own, so that it is broadcast and not repeated.
            gated = gate(gates.unflatten(2, (condition.shape[2], -1)) + condition).flatten(2)
            read = read + F.conv1d(gated, skip)
        bias = cast(Tensor, self.skips.bias).unsqueeze(1)
        return self.out(self.hidden((read + bias).relu()).relu())

    @torch.no_grad()
    def begin(self, batch: int, local: Tensor | None = None, global_: Tensor | None = None) -> WaveNetState:
        """Return the state of `batch` empty sequences. Use it before the weights change; its steps have no gradient.

        Args:
            batch: B.
            local: features [B, L, N] of the N `hop` samples of a whole sequence.
            global_: features [B, G].

        Raises:
            NarrowsError: if features are missing, not expected, or of another shape.
        """
        self._check_features(batch, local, global_)
        return WaveNetState(self, self._constant(batch, global_).detach(), local)

    def _enter(self, x: Tensor) -> Tensor:
        """Return the residual stream [B, C, T] that the first layer reads: at t, the map of the sample before."""
        inlet = self.projects[0]
        if x.is_floating_point():
            return inlet(F.pad(x, (1, -1)))
        rows = F.embedding(x, inlet.weight.squeeze(2).t()).transpose(1, 2)
        return F.pad(rows, (1, -1)) + cast(Tensor, inlet.bias).unsqueeze(1)

    def _constant(self, batch: int, global_: Tensor | None) -> Tensor:
        """Return the terms of the gates that are the same at every sample, [B, layers 2 C]."""
        if self.whole is None or global_ is None:
            return self.bias.expand(batch, -1)
        return self.bias + self.whole(global_)

    def _check_features(self, batch: int, local: Tensor | None, global_: Tensor | None) -> None:
        for name, features, channels, dims in (
            ("local", local, self.local_channels, 3),
            ("global", global_, self.global_channels, 2),
        ):
            if features is None:
                if channels:
                    raise NarrowsError(f"this WaveNet has {name}_channels = {channels}: pass {name} features")
            elif not channels:
                raise NarrowsError(f"this WaveNet has {name}_channels = 0: leave {name} features out, or set it")
            elif features.dim() != dims or features.shape[:2] != (batch, channels):
                wanted = f"[{batch}, {channels}" + (", N]" if dims == 3 else "]")
                raise NarrowsError(f"{name} features must have the shape {wanted}, not {list(features.shape)}")


class WaveNetState:
    """A batch of sequences generated sample by sample: the caches of the layers, and the weights rearranged for steps.

    The input of each layer is cached in a ring buffer as long as the layer's span.

    Args:
        network: the network to run.
        constant: terms of the gates that are the same at every sample, [B, layers 2 C].
        local: features [B, L, N], each of `hop` samples; None for a network without.

    Attributes:
        time: the number of samples before the next one.
        first: the value of `time` at the first step, the number of samples appended before it.
    """

    def __init__(self, network: WaveNet, constant: Tensor, local: Tensor | None) -> None:
        inlet, (taps,) = network.projects[0], network.dilated[0].kernel_size
        depth, channels, batch = len(network.spans), inlet.out_channels, len(constant)
        zeros, device = network.bias.new_zeros, network.bias.device
        self.hop = network.hop
        self.time = self.first = 0
        self.last: Tensor | None = None

        # The rings are rows of one tensor, one after the other. For each time, until all rings are back at their start:
        # the rows that all taps but the last read, [layers (taps - 1)], and the rows written afterwards, [layers].
        spans = torch.tensor(network.spans, device=device).unsqueeze(1)
        times = torch.arange(max(network.spans), device=device).view(-1, 1, 1)
        delays = spans // (taps - 1) * torch.arange(taps - 1, 0, -1, device=device)
        rows = (times - delays) % spans + spans.cumsum(0) - spans
        self.rows = list(zip(rows.flatten(1), rows[..., 0].contiguous(), strict=True))
        self.ring = zeros(sum(network.spans), batch, channels)

        # For this sample: its input, the residual stream that each layer reads, the gates, and the gated features.
        self.sample = zeros(batch, inlet.in_channels)
        self.stream = zeros(depth, batch, channels)
        self.gates = zeros(depth, batch, 2 * channels)
        self.gated = zeros(batch, depth * channels)

        # Weights as matrices; the inputs of all taps but the last are known for all layers at once.
        kernels = torch.stack([dilated.weight for dilated in network.dilated]).permute(0, 3, 2, 1)
        self.past = kernels[:, :-1].flatten(1, 2).contiguous()
        head = (network.skips, network.hidden, network.out)
        self.head = [(cast(Tensor, part.bias).detach(), _matrix(part)) for part in head]
        self.conditions: Iterator[Tensor] = repeat(_by_layer(constant, depth))
        if network.local is not None and local is not None:
            features, weight = local.detach().permute(2, 0, 1).contiguous(), _matrix(network.local)
            self.conditions = (_by_layer(torch.addmm(constant, of_hop, weight), depth) for of_hop in features)

        # The views and weights of each layer, made once: a view costs as much as arithmetic.
        gated = self.gated.chunk(depth, 1)
        self.layers = list(
            zip(
                [cast(Tensor, inlet.bias).detach(), *self.stream[:-1]],
                [self.sample, *gated[:-1]],
                [_matrix(project) for project in network.projects],
                self.stream,
                self.gates,
                kernels[:, -1].contiguous(),
                *self.gates.chunk(2, 2),
                gated,
                strict=True,
            )
        )

    def append(self, samples: Iterable[Tensor]) -> None:
        """Append samples, each as for `step`, without computing their outputs; the next step is a first step again."""
        for sample in samples:
            self._advance(self.last)
            self.last = sample
        self.first = self.time

    def step(self, previous: Tensor | None) -> Tensor:
        """Append a sample and return the outputs for the next one, [B, outputs].

        Args:
            previous: the sample, [B, inputs], or its level, int64 [B]; None at the first step, where zeros stand for no
                sample.

        Raises:
            NarrowsError: if `previous` has another shape, or the local features end before the next sample.
        """
        self._advance(self.last if previous is None else previous)
        x = self.gated
        for bias, weight in self.head[:-1]:
            x = torch.addmm(bias, x, weight).relu_()
        bias, weight = self.head[-1]
        return torch.addmm(bias, x, weight)

    def _advance(self, previous: Tensor | None) -> None:
        """Append a sample and compute the gated features of the next one."""
        self._read(previous)
        if self.time % self.hop == 0:
            condition = next(self.conditions, None)
            if condition is None:
                raise NarrowsError(
                    f"the local features cover {self.time} samples, all drawn: call begin() for new sequences"
                )
            self.condition = condition
        read, written = self.rows[self.time % len(self.rows)]
        self.time += 1
        past = self.ring.index_select(0, read).unflatten(0, (len(self.layers), -1)).transpose(1, 2).flatten(2)
        torch.baddbmm(self.condition, past, self.past, out=self.gates)
        # For each layer, the input of the stream, then the gates, then `gate`, all in place.
        for before, new, project, here, gates, current, a, b, gated in self.layers:
            torch.addmm(before, new, project, out=here)
            gates.addmm_(here, current).sigmoid_()
            torch.addcmul(b, a, b, value=-2, out=gated)
        self.ring.index_copy_(0, written, self.stream)

    def _read(self, previous: Tensor | None) -> None:
        """Copy the sample before to the input of the first layer."""
        if previous is None:
            self.sample.zero_()
        elif previous.shape == self.sample.shape:
            self.sample.copy_(previous)
        elif previous.shape == self.sample.shape[:1] and not previous.is_floating_point():
            self.sample.zero_().scatter_(1, previous.unsqueeze(1), 1.0)
        else:
            whole, level = list(self.sample.shape), list(self.sample.shape[:1])
            found = list(previous.shape)
            raise NarrowsError(f"step() needs the previous sample, {whole}, or its level, {level}, not {found}")


def _check_sizes(least: int, **sizes: int) -> None:
    for name, size in sizes.items():
        if size < least:
            raise NarrowsError(f"{name} must be at least {least}, not {size}")


def _matrix(convolution: nn.Conv1d) -> Tensor:
    """Return the weights of a 1x1 convolution as a matrix [in, out]."""
    return convolution.weight.detach().squeeze(2).t().contiguous()


def _by_layer(condition: Tensor, depth: int) -> Tensor:
    """Return terms [B, layers 2 C] as [layers, B, 2 C]."""
    return condition.unflatten(1, (depth, -1)).transpose(0, 1).contiguous()
