"""The recurrent encoder and decoders of the VRAE: a window of a sequence to one latent, and a latent to a window.

O. Fabius, J. R. van Amersfoort, "Variational Recurrent Auto-Encoders" (2015), section 2.2:
h_{t+1} = tanh(W_enc h_t + W_in x_{t+1} + b_enc), and the distribution of z from the last h; then
h_0 = tanh(W_z z + b_z), h_{t+1} = tanh(W_dec h_t + W_x x_t + b_dec), x_t = sigmoid(W_out h_t + b_out).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar, cast

import torch
from torch import Tensor, nn

from narrows.errors import NarrowsError
from narrows.networks.decoder import AutoregressiveDecoder

__all__ = ["AutoregressiveRecurrentDecoder", "RecurrentDecoder", "RecurrentEncoder"]

Cell = Literal["rnn", "gru", "lstm"]
State = tuple[Tensor, ...]
"""(h,) or, for an LSTM, (h, c); each [B, hidden]."""

Network = TypeVar("Network", bound=nn.Module)

SEQUENCES: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
CELLS: dict[str, Callable[..., nn.RNNCellBase]] = {"rnn": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}


class RecurrentEncoder(nn.Module):
    """Sequences [B, inputs, T] -> features [B, outputs, T / window]: those of a window from its last state.

    The windows do not overlap and are independent of each other. The network starts each with a state of zeros.

    Args:
        inputs: channels of the sequences.
        outputs: features of each window.
        window: steps of a window.
        hidden: units of the recurrent network.
        cell: `rnn` (tanh), `gru` or `lstm`.
        reverse: read each window from its end, so that its first steps are the freshest in the last state.

    Raises:
        NarrowsError: if a size is below 1, or the cell is unknown.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        window: int = 50,
        hidden: int = 500,
        cell: Cell = "rnn",
        reverse: bool = False,
    ) -> None:
        super().__init__()
        _check(cell, inputs=inputs, outputs=outputs, window=window, hidden=hidden)
        self.hop, self.reverse = window, reverse
        self.network = _remembering(SEQUENCES[cell](inputs, hidden, batch_first=True))
        self.out = nn.Linear(hidden, outputs)
        # Models scale their input to [-1, 1]. As with the paper's 0 and 1, silence starts without any effect.
        with torch.no_grad():
            cast(Tensor, self.network.bias_ih_l0).copy_(cast(Tensor, self.network.weight_ih_l0).sum(1))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode sequences whose steps count where `mask`, bool [B, T], is True; the others are at the ends of rows.

        Raises:
            NarrowsError: if T is not a multiple of the window.
        """
        return self.out(self.last_states(x, mask)).transpose(1, 2)

    def last_states(self, x: Tensor, mask: Tensor | None = None, state: Tensor | None = None) -> Tensor:
        """Return the network's last state in each window, [B, N, hidden], for the arguments of `forward`.

        Args:
            x: sequences [B, inputs, T].
            mask: the steps that count.
            state: the first state of every window, [hidden]; None for zeros.

        Raises:
            NarrowsError: if T is not a multiple of the window.
        """
        if x.shape[2] % self.hop:
            raise NarrowsError(f"{x.shape[2]} steps are not a whole number of windows of {self.hop}: pad them")
        windows = x.unflatten(2, (-1, self.hop)).permute(0, 2, 3, 1)  # [B, N, window, inputs]
        shape, windows = windows.shape[:2], windows.flatten(0, 1)
        first = None if state is None else self._first(state, len(windows))
        if mask is None:
            states, _ = self.network(windows.flip(1) if self.reverse else windows, first)
            return states[:, -1].unflatten(0, shape)
        lengths = mask.unflatten(1, (-1, self.hop)).sum(2).flatten()
        if self.reverse:
            steps = torch.arange(self.hop, device=x.device)
            order = (lengths.unsqueeze(1) - 1 - steps).clamp(min=0)
            windows = windows.take_along_dim(order.unsqueeze(2), 1)
        states, _ = self.network(windows, first)
        place = (lengths - 1).clamp(min=0).view(-1, 1, 1)
        return states.take_along_dim(place, 1).squeeze(1).unflatten(0, shape)

    def _first(self, state: Tensor, batch: int) -> Tensor | State:
        h = state.expand(1, batch, -1).contiguous()
        return (h, torch.zeros_like(h)) if isinstance(self.network, nn.LSTM) else h


class RecurrentDecoder(nn.Module):
    """Latents [B, latents, N] -> outputs [B, outputs, N * hop]: each latent gives the first state of its window.

    At each step the network reads the sigmoid of its own outputs at the step before, zeros at the first. Nothing of the
    data is fed in, so the window depends on the latent alone.

    Args:
        latents: channels of the latents.
        outputs: channels of the outputs, such as one logit for each pitch.
        hidden: units of the recurrent network.
        cell: `rnn` (tanh), `gru` or `lstm`; the cell state of an LSTM starts with zeros.
        hop: steps of a window, those of the encoder.
        bias: initial bias of the outputs. For data that are mostly 0, their log-odds of being 1: otherwise the first
            training steps push every state of the network to one side, where it forgets its latent.

    Raises:
        NarrowsError: if a size is below 1, or the cell is unknown.
    """

    def __init__(
        self, latents: int, outputs: int, hidden: int = 500, cell: Cell = "rnn", hop: int = 50, bias: float = 0.0
    ) -> None:
        super().__init__()
        _check(cell, latents=latents, outputs=outputs, hidden=hidden, hop=hop)
        self.hop, self.kind = hop, cell
        self.start = nn.Linear(latents, hidden)
        self.cell = _remembering(CELLS[cell](outputs, hidden))
        self.out = nn.Linear(hidden, outputs)
        nn.init.constant_(self.out.bias, bias)

    def forward(self, z: Tensor, mask: Tensor | None = None) -> Tensor:
        """Decode latents window by window; `mask` has no effect, because windows are independent of each other."""
        batch = len(z)
        outputs, _ = self.run(self.begin(z.transpose(1, 2).flatten(0, 1)), self.hop)
        return outputs.unflatten(0, (batch, -1)).transpose(1, 2).flatten(2)

    def begin(self, z: Tensor) -> tuple[State, Tensor]:
        """Return the state before the first step for latents [B, latents], and the outputs before it: zeros."""
        h = self.start(z).tanh()
        return (h, torch.zeros_like(h)) if self.kind == "lstm" else (h,), h.new_zeros(len(h), self.out.out_features)

    def run(self, state: tuple[State, Tensor], steps: int) -> tuple[Tensor, tuple[State, Tensor]]:
        """Go on from a state for any number of steps, beyond the window too.

        Args:
            state: from `begin` or an earlier `run`.
            steps: T.

        Returns:
            outputs [B, outputs, T], and the state after them.
        """
        hidden, x = state
        logits = []
        for _ in range(steps):
            after = self.cell(x, hidden if self.kind == "lstm" else hidden[0])
            hidden = after if isinstance(after, tuple) else (after,)
            logits.append(self.out(hidden[0]))
            x = logits[-1].sigmoid()
        return torch.stack(logits, 2), (hidden, x)


class AutoregressiveRecurrentDecoder(AutoregressiveDecoder):
    """p(x_t | x_<t, z) of windows: like `RecurrentDecoder`, but each step reads the data of the step before.

    Notes that are held are easy to tell from the step before, so the bits are fewer, and the latent may say less.

    Args:
        latents: channels of the latents.
        outputs: channels of the data, one output each, such as the logit of each pitch.
        hidden: units of the recurrent network.
        cell: `rnn` (tanh), `gru` or `lstm`; the cell state of an LSTM starts with zeros.
        hop: steps of a window, those of the encoder.
        bias: initial bias of the outputs. For data that are mostly 0, their log-odds of being 1: otherwise the first
            training steps push every state of the network to one side, where it forgets its latent.

    Raises:
        NarrowsError: if a size is below 1, or the cell is unknown.
    """

    def __init__(
        self, latents: int, outputs: int, hidden: int = 500, cell: Cell = "rnn", hop: int = 50, bias: float = 0.0
    ) -> None:
        super().__init__()
        _check(cell, latents=latents, outputs=outputs, hidden=hidden, hop=hop)
        self.hop, self.kind = hop, cell
        self.start = nn.Linear(latents, hidden)
        self.network = _remembering(SEQUENCES[cell](outputs, hidden, batch_first=True))
        self.out = nn.Linear(hidden, outputs)
        nn.init.constant_(self.out.bias, bias)

    def forward(self, z: Tensor, levels: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the outputs of all steps, [B, outputs, N hop], given the data as 0 and 1, int64 [B, outputs, N hop].

        The windows are independent of each other: the first step of each reads zeros.
        """
        batch = len(z)
        windows = levels.unflatten(2, (-1, self.hop)).permute(0, 2, 3, 1).flatten(0, 1).to(z.dtype)
        before = torch.cat([torch.zeros_like(windows[:, :1]), windows[:, :-1]], 1)
        states, _ = self.network(before, self.first(z.transpose(1, 2).flatten(0, 1)))
        return self.out(states).unflatten(0, (batch, -1)).flatten(1, 2).transpose(1, 2)

    def first(self, z: Tensor) -> Tensor | State:
        """Return the state before the first step for latents [B, latents], as the network takes it."""
        h = self.start(z).tanh().unsqueeze(0)
        return (h, torch.zeros_like(h)) if self.kind == "lstm" else h

    @torch.no_grad()
    def begin(self, z: Tensor, condition: Tensor | None = None) -> RecurrentState:
        """Return the state before the first window; after the last latent, the steps go on in its window."""
        return RecurrentState(self, z)


class RecurrentState:
    """A batch of sequences generated step by step.

    Args:
        decoder: the decoder.
        z: latents [B, latents, N].
    """

    def __init__(self, decoder: AutoregressiveRecurrentDecoder, z: Tensor) -> None:
        self.decoder, self.z, self.time = decoder, z, 0
        self.state: Tensor | State = ()

    def step(self, previous: Tensor | None) -> Tensor:
        """Append the data of a step, [B, outputs], and return the outputs for the next; see `DecoderState`."""
        decoder, (window, at) = self.decoder, divmod(self.time, self.decoder.hop)
        if at == 0 and window < self.z.shape[2]:
            self.state, previous = decoder.first(self.z[:, :, window]), None
        outputs = decoder.out.out_features
        x = self.z.new_zeros(len(self.z), outputs) if previous is None else previous.to(self.z.dtype)
        states, self.state = decoder.network(x.unsqueeze(1), self.state)
        self.time += 1
        return decoder.out(states[:, 0])


def _remembering(network: Network) -> Network:
    """Start the recurrent weights of a tanh network with the identity, so that its state lasts (Le et al. 2015).

    Our choice: with PyTorch's own start it forgets its first state in a few steps, the decoder learns to do without its
    latent, and the latent stays empty. LSTM and GRU cells remember by themselves.
    """
    for name, weight in network.named_parameters():
        if name.startswith("weight_hh") and weight.shape[0] == weight.shape[1]:
            nn.init.eye_(weight)
    return network


def _check(cell: str, **sizes: int) -> None:
    if cell not in CELLS:
        raise NarrowsError(f"cell is {cell!r}: it must be one of {', '.join(CELLS)}")
    for name, size in sizes.items():
        if size < 1:
            raise NarrowsError(f"{name} is {size}: it must be at least 1")
