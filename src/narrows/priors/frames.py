"""A PixelCNN of each frame given the frames before it: a prior over codes on a grid of frames, rows and columns.

van den Oord et al. 2017, "Neural discrete representation learning", section 4.4, imagine frames from actions in the
space of codes, by a prior that they do not describe. Ours follows Kalchbrenner et al. 2016, "Video pixel networks": one
network reads the frames before, once a frame, and a gated PixelCNN draws the frame's codes given its features. The
PixelCNN costs as much for each code as one of single frames, however many frames came before.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from narrows.errors import NarrowsError
from narrows.networks.context import FrameContext
from narrows.networks.pixelcnn import PixelCNN
from narrows.priors.condition import Condition
from narrows.priors.pixelcnn import PixelCNNState
from narrows.priors.prior import CodeSpec, Prior

__all__ = ["FramePixelCNN", "FramePixelCNNState"]


class FramePixelCNN(Prior):
    """Gated PixelCNN of each frame of a grid (T, H, W), given features of the `frames` frames before it.

    The features enter the gates of the PixelCNN, and a linear map of them, a guess, is added to the logits of a code. A
    code depends on the codes before it in its frame (see `narrows.networks.pixelcnn.PixelCNN`), on the codes of the
    `frames` frames before, on the features of its own frame and of these (see `narrows.networks.context.FrameContext`),
    and on the label. It does not depend on where in the grid its frame is, except that frames before the first are
    known not to exist. So a window over longer sequences is moved exactly, where it keeps `frames` frames.

    Features that are zeros in all channels stand for unknown ones. In training, those of some examples are hidden up to
    a random frame or from one on, so that the prior can also be used without. Codes that the prior drew differ from
    those it learnt from, and each frame adds to the difference; so `noise` replaces some codes of the frames before in
    training, as Valevski et al. 2024, "Diffusion models are real-time game engines", add noise to pictures.

    Args:
        spec: the codes to model, on a grid of three dimensions.
        frames: n, the number of frames before that a frame depends on.
        context_width: channels of the features of the frames before.
        blocks: number of residual blocks of the network that computes them.
        layers: number of gated layers of the PixelCNN.
        width: channels of the vertical and of the horizontal stack.
        kernel_size: side of the masked kernels of the gated layers, odd.
        first_kernel_size: side of the masked kernel of the first convolution, odd.
        head_width: hidden features of the output head for each code.
        dropout: probability with which a gated feature of the horizontal stack is dropped in training.
        hidden: probability with which features of an example are hidden in training.
        noise: the largest share of codes of the frames before that are replaced by random ones in training; the share
            of an example is drawn from 0 to `noise`.

    Raises:
        NarrowsError: if the grid is not three-dimensional, a kernel size is even or below 3, another size is below 1,
            or a probability is not in [0, 1).
    """

    def __init__(
        self,
        spec: CodeSpec,
        frames: int = 4,
        context_width: int = 128,
        blocks: int = 6,
        layers: int = 10,
        width: int = 64,
        kernel_size: int = 3,
        first_kernel_size: int = 5,
        head_width: int = 256,
        dropout: float = 0.0,
        hidden: float = 0.1,
        noise: float = 0.0,
    ) -> None:
        super().__init__(spec)
        if len(spec.grid) != 3:
            raise NarrowsError(
                f"a FramePixelCNN models codes on a grid (frames, rows, columns), got {spec.grid}: use GatedPixelCNN "
                "for two dimensions, WaveNetPrior for one, or TransformerPrior"
            )
        sizes = {"frames": frames, "context_width": context_width, "blocks": blocks}
        sizes |= {"layers": layers, "width": width, "head_width": head_width}
        for name, size in sizes.items():
            if size < 1:
                raise NarrowsError(f"{name} must be at least 1, not {size}")
        for name, size in (("kernel_size", kernel_size), ("first_kernel_size", first_kernel_size)):
            if size < 3 or size % 2 == 0:
                raise NarrowsError(f"{name} must be odd and at least 3, got {size}")
        for name, share in (("dropout", dropout), ("hidden", hidden), ("noise", noise)):
            if not 0 <= share < 1:
                raise NarrowsError(f"{name} must be at least 0 and below 1, not {share}")
        self.hidden, self.noise = hidden, noise
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
            context_width,
        )
        assert self.network.local is not None
        nn.init.normal_(self.network.local.weight, std=context_width**-0.5)  # the context matters from the start
        # Without a guess of its own, the context is hardly learned: the PixelCNN explains most of a frame by itself.
        self.guess = nn.Conv2d(context_width, spec.codebooks * spec.codebook_size, 1)
        self.context = FrameContext(width, context_width, frames, blocks, spec.channels)

    @property
    def learns_without_features(self) -> bool:
        """Whether it is also trained with unknown features: with some that are hidden."""
        return self.hidden > 0

    def logits(self, codes: Tensor, condition: Condition | Tensor | None = None) -> Tensor:
        """Return the logits of p(code | codes before it, condition) of all codes at once, [B, T, H, W, M, K]."""
        codes = self.check_codes(codes)
        labels, features = self._condition(condition, len(codes))
        if self.training and features is not None:
            features = self._partly_hidden(features)
        earlier = self._partly_random(codes[:, :-1]) if self.training and self.noise else codes[:, :-1]
        embedded = self.network.embed(earlier).movedim(-1, 1)
        before = F.pad(embedded, (0, 0, 0, 0, self.context.frames, 0))
        context = self.context(before, self.context.terms(features))
        logits = self.network(codes.flatten(0, 1), labels.repeat_interleave(self.grid[0]), context)
        guess = self.guess(context.relu()).permute(0, 2, 3, 1)
        return (logits + guess.unflatten(-1, logits.shape[-2:])).unflatten(0, codes.shape[:2])

    @torch.no_grad()
    def begin(
        self, batch: int, condition: Condition | Tensor | None = None, past: Tensor | None = None
    ) -> FramePixelCNNState:
        """Return the state of `batch` examples after the codes of `past`, [B, n], read frame by frame."""
        past = self.check_past(past, batch)
        labels, features = self._condition(condition, batch)
        return FramePixelCNNState(self.network, self.context, self.guess, self.grid, labels, features, past)

    def step(self, state: FramePixelCNNState, previous: Tensor | None) -> Tensor:
        """Append a code, [B] (None at the first step), and return the logits of the next code, [B, K]."""
        return state.step(previous)

    def _condition(self, condition: Condition | Tensor | None, batch: int) -> tuple[Tensor, Tensor | None]:
        """Return the labels, zeros for a prior without classes, and the features with all frames."""
        labels, features = self.check_condition(condition, batch)
        if labels is None:
            labels = torch.zeros(batch, dtype=torch.long, device=self._weight.device)
        return labels, None if features is None else features.expand(-1, -1, self.grid[0], -1, -1)

    def _partly_hidden(self, features: Tensor) -> Tensor:
        """Return the features [B, C, T, ...], in a share of the examples with zeros in the first or the last frames."""
        batch, frames = len(features), self.grid[0]
        chosen = torch.rand(batch, device=features.device) < self.hidden
        count = (torch.randint(1, frames + 1, (batch,), device=features.device) * chosen).unsqueeze(1)
        index = torch.arange(frames, device=features.device)
        first = torch.rand(batch, 1, device=features.device) < 0.5
        known = torch.where(first, index >= count, index < frames - count)
        return features * known[:, None, :, None, None]

    def _partly_random(self, codes: Tensor) -> Tensor:
        """Return the codes [B, ...], in each example with a share of up to `noise` replaced by random ones."""
        share = self.noise * torch.rand(len(codes), *[1] * (codes.ndim - 1), device=codes.device)
        replaced = torch.rand(codes.shape, device=codes.device) < share
        return torch.where(replaced, torch.randint_like(codes, self.codebook_size), codes)


class FramePixelCNNState:
    """A batch of sequences of frames filled code by code: the frames before, embedded, and the state of this frame.

    Args:
        network: the PixelCNN of a frame.
        context: computes the features of a frame from the frames before.
        guess: computes from these features what is added to the logits.
        grid: (T, H, W).
        labels: int64 [B].
        features: [B, C, T, H or 1, W or 1]; None for a context without.
        past: the first codes of each example, [B, n].
    """

    def __init__(
        self,
        network: PixelCNN,
        context: FrameContext,
        guess: nn.Module,
        grid: tuple[int, ...],
        labels: Tensor,
        features: Tensor | None,
        past: Tensor,
    ) -> None:
        frames, height, width = grid
        books, batch = len(network.embeddings), len(labels)
        self.network, self.context, self.guess = network, context, guess
        self.shape = (batch, height, width, books)
        self.size = height * width * books
        self.length = frames * self.size
        self.terms = context.terms(features)
        weight = network.left.weight
        self.before = weight.new_zeros(batch, weight.shape[1], context.frames, height, width)
        self.codes = torch.zeros(self.size, batch, dtype=torch.long, device=labels.device)
        blank = weight.new_zeros(1, 1, 1, 1).expand(batch, context.before.out_channels, 1, 1)
        self.frame = PixelCNNState(network, height, width, labels, blank)
        self.index = self.first = past.shape[1]
        self._append(past)

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
            self.codes[(self.index - 1) % self.size] = previous
            if self.index % self.size == 0:
                self._remember(self.codes.t().reshape(self.shape).unsqueeze(1))
        if self.index % self.size == 0:
            self._begin_frame()
            previous = None
        guess = self.guesses[self.index % self.size]
        self.index += 1
        return self.frame.step(previous).add_(guess)

    def _append(self, past: Tensor) -> None:
        """Read the whole frames of the past at once, and the codes of an incomplete one after another."""
        batch, *size = self.shape
        frames, rest = divmod(past.shape[1], self.size)
        whole = past[:, : frames * self.size].reshape(batch, frames, *size)
        self._remember(whole[:, -self.context.frames :])
        if rest:
            self._begin_frame()
            self.frame.append(past[:, frames * self.size :])
            self.codes[:rest] = past[:, frames * self.size :].t()

    @torch.no_grad()
    def _remember(self, codes: Tensor) -> None:
        """Append frames of codes, [B, n, H, W, M], to the frames before."""
        embedded = self.network.embed(codes).movedim(-1, 1)
        self.before = torch.cat([self.before, embedded], 2)[:, :, -self.context.frames :]

    @torch.no_grad()
    def _begin_frame(self) -> None:
        """Compute the features of a frame from the frames before, and begin it."""
        now = self.index // self.size
        terms = None if self.terms is None else self.terms[:, :, now : now + 1]
        features = self.context(self.before, terms)
        self.frame.restart(features)
        guess = self.guess(features.relu()).flatten(2).permute(2, 0, 1)
        # By code, then by example, each in one piece: [codes of a frame, B, K].
        self.guesses = guess.unflatten(2, (self.shape[-1], -1)).transpose(1, 2).flatten(0, 1).contiguous()
