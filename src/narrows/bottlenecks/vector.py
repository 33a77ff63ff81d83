"""Vector quantisation: each feature vector is replaced by the nearest of K learnt vectors, whose index is the code.

A. van den Oord, O. Vinyals, K. Kavukcuoglu, "Neural Discrete Representation Learning", section 3 and appendix A.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import nan
from typing import Any

import torch
from torch import Tensor, nn

from narrows.bottlenecks.codebook import (
    Codebook,
    CodebookCare,
    EMACodebook,
    KMeansStart,
    RestartUnused,
    is_finite,
    lookup,
    nearest,
)
from narrows.bottlenecks.mask import hide
from narrows.bottlenecks.posterior import CodePosterior, DiscreteBottleneck, require_floats
from narrows.bottlenecks.recomputation import PointsInUse, is_recomputation
from narrows.bottlenecks.scalar import FSQ
from narrows.bottlenecks.usage import count, usage_statistics
from narrows.distributed import global_sum
from narrows.errors import NarrowsError
from narrows.tracing import is_traced

__all__ = ["FactorizedQuantizer", "VectorQuantizer"]


class _Quantise(torch.autograd.Function):
    """Replace tokens z by points e and sum ||z - sg[e]||^2, with both gradients in one pass over the tokens.

    With `kept`, bool [n, 1, 1], the sum is over the tokens where it is True.
    The residual z - e is saved for the backward pass, so the result may be changed in place. It is also an output, with
    the same gradient as z, so the backward pass can itself be differentiated.
    """

    @staticmethod
    def forward(
        ctx: Any, tokens: Tensor, points: Tensor, codes: Tensor, kept: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        quantised = lookup(points, codes)
        residual = tokens - quantised
        if kept is not None:
            residual.masked_fill_(~kept, 0)
        ctx.save_for_backward(residual)
        ctx.set_materialize_grads(False)
        return quantised, torch.dot(residual.flatten(), residual.flatten()), residual

    @staticmethod
    def backward(
        ctx: Any, d_quantised: Tensor | None, d_error: Tensor | None, d_residual: Tensor | None
    ) -> tuple[Tensor | None, None, None, None]:
        (residual,) = ctx.saved_tensors
        gradient = d_quantised
        if d_error is not None:
            twice = 2 * d_error * residual if gradient is None else None
            gradient = twice if gradient is None else torch.addcmul(gradient, residual, d_error, value=2)
        if d_residual is not None:
            gradient = d_residual if gradient is None else gradient + d_residual
        return gradient, None, None, None


class VectorQuantizer(DiscreteBottleneck):
    """The bottleneck of the VQ-VAE: z = e_k with k = argmin_j ||z_e - e_j|| (equations 1 and 2).

    It works in any module, and quantises vectors [B, C] as well as sequences, images or volumes [B, C, *grid]:

        quantized, codes, loss = VectorQuantizer(dim=64, codebook_size=512)(features)

    The gradient of z passes straight through to the features, and the commitment loss b ||z_e - sg[e]||^2 (equation 3)
    keeps the features near their vectors. Losses are means over the batch and the N latents of an example. In training
    mode the codebook learns in the forward pass, with or without gradients, and every process must take part. In eval
    mode, or after `freeze()`, no forward pass changes it; being frozen is part of the saved state. Everything is
    computed in float32, even under autocast.

    Tokens that are NaN or infinite do not change the codebook; the statistic "nonfinite" counts them, and the losses of
    their batch are not finite. Masked tokens change nothing, and losses are means over the others. If activation
    checkpointing runs a forward pass again, the second run uses the points of the first and does not learn; up to 16
    passes can be pending. The backward pass can be differentiated again.

    Args:
        dim: length of a codebook vector; the features have `codebooks` * `dim` channels.
        codebook_size: K, vectors in a codebook.
        codebooks: M, latents per position, each with its own codebook.
        commitment: b, the weight of the commitment loss.
        codebook: how the vectors are learnt: `EMACodebook`, `LearntCodebook`, `CosineCodebook`, or any function of M, K
            and dim that returns a `Codebook`.
        care: additional ways to keep codes in use. None starts the codebook by k-means and moves codes that were unused
            for 20 batches; without these, most of a codebook may never be used. The paper uses neither: pass [].

    Raises:
        NarrowsError: if a size is below 1, or the features have another number of channels.
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        codebooks: int = 1,
        commitment: float = 0.25,
        codebook: Callable[[int, int, int], Codebook] = EMACodebook,
        care: Sequence[CodebookCare] | None = None,
    ):
        super().__init__()
        for name, value in {"dim": dim, "codebook_size": codebook_size, "codebooks": codebooks}.items():
            if value < 1:
                raise NarrowsError(f"{name} must be at least 1, not {value}")
        self.features = self.channels = codebooks * dim
        self.codebook_size, self.codebooks, self.commitment = codebook_size, codebooks, commitment
        self.codebook = codebook(codebooks, codebook_size, dim)
        self.care = (KMeansStart(), RestartUnused(after=20)) if care is None else tuple(care)
        self.frozen = False
        self._in_use = PointsInUse()

    def freeze(self) -> None:
        """Permanently stop the codebook from learning, even in training mode."""
        self.frozen = True
        for parameter in self.codebook.parameters():
            parameter.requires_grad_(False).grad = None

    def forward(self, features: Tensor, mask: Tensor | None = None) -> CodePosterior:
        """Quantise features [B, M * `dim`, *grid], of any number of grid dimensions; see `Bottleneck.forward`."""
        if features.ndim < 2 or features.shape[1] != self.features:
            raise NarrowsError(
                f"features must be [B, {self.features}, *grid] for {self.codebooks} codebook(s) of vectors of length "
                f"{self.features // self.codebooks}, not {list(features.shape)}: change dim, or the encoder's channels"
            )
        require_floats(features)
        quantise = self._quantise_plainly if is_traced() else self._quantise
        with torch.autocast(features.device.type, enabled=False):
            return quantise(hide(features, mask), mask)

    def get_extra_state(self) -> Tensor:
        """Return whether the codebook is frozen, for the saved state."""
        return torch.tensor(self.frozen)

    def set_extra_state(self, state: Tensor) -> None:
        """Freeze the codebook if it was frozen when the state was saved."""
        if state:
            self.freeze()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        # Older states have no entry for freezing.
        state_dict.setdefault(f"{prefix}_extra_state", torch.tensor(False))
        super()._load_from_state_dict(state_dict, prefix, *others)

    def embed(self, codes: Tensor) -> Tensor:
        """Return the latents z [B, M * `dim`, *grid] of codes [B, *grid], or [B, *grid, M] where M > 1.

        Raises:
            NarrowsError: if a code is outside [0, K), or the last dimension is not M.
        """
        codes = self.check_codes(codes)
        z = lookup(self.codebook.points, codes.flatten(0, -2)).view(*codes.shape[:-1], self.channels)
        return z.movedim(-1, 1).contiguous().to(self.codebook.vectors.dtype)

    def sample_prior(self, batch: int, grid: tuple[int, ...]) -> Tensor:
        """Return the latents [`batch`, M * `dim`, *grid] of codes drawn uniformly."""
        shape = (batch, *grid) if self.codebooks == 1 else (batch, *grid, self.codebooks)
        return self.embed(torch.randint(self.codebook_size, shape, device=self.codebook.vectors.device))

    def _quantise(self, features: Tensor, mask: Tensor | None) -> CodePosterior:
        channels_last = features.movedim(1, -1)
        tokens = self._tokens(channels_last)
        kept = None if mask is None else mask.reshape(-1, 1, 1)
        finite = is_finite(tokens.detach())
        # Masked tokens are NaN for everything that learns, so that they are ignored like tokens that are not finite.
        data = tokens.detach() if kept is None else tokens.detach().masked_fill(~kept, nan)
        learning = self.training and not self.frozen and not is_recomputation()
        if learning:
            self.codebook.require_float32()
            for care in self.care:
                care(self.codebook, data)
        points = self._points(tokens.detach(), learning)
        codes = nearest(tokens.detach(), points)
        # Nothing is learned from tokens that are not finite: they are counted under code K, one beyond the last.
        counted = codes.masked_fill(~(finite if kept is None else finite & kept.squeeze(2)), self.codebook_size)
        counts = count(counted, self.codebook_size)
        quantised, error, _ = _Quantise.apply(tokens, points, codes, kept)
        latents = self._latents(codes, mask)
        losses = self.codebook.losses(data, counted, latents)
        losses["commitment"] = error * (self.commitment / latents)
        if learning:
            counts = global_sum(counts)
            self.codebook.observe(data, counted, counts)
        statistics = {**usage_statistics(counts), "nonfinite": (~finite).float().sum()}

        z = quantised.view(channels_last.shape).movedim(-1, 1).to(features.dtype)
        if features.is_contiguous():  # otherwise channels last, like the tokens; z always has the features' layout
            z = z.contiguous()
        return CodePosterior(z, self._on_grid(codes, channels_last), None, losses, statistics, self.codebook_size, mask)

    def _quantise_plainly(self, features: Tensor, mask: Tensor | None) -> CodePosterior:
        """Do the same in eval mode, without statistics, in operations that can be exported."""
        if self.training:
            raise NarrowsError("a quantiser can be exported only in eval mode: call eval() on the module first")
        channels_last = features.movedim(1, -1)
        tokens = self._tokens(channels_last)
        codes = nearest(tokens, self.codebook.points)
        quantised = lookup(self.codebook.points, codes)
        distances = (tokens - quantised).square().sum(2)
        latents = self._latents(codes, mask)
        distance = distances.mean() if mask is None else distances.where(mask.reshape(-1, 1), 0).sum() / latents
        z = quantised.reshape(channels_last.shape).movedim(-1, 1).to(features.dtype)
        losses = dict.fromkeys(self.codebook.losses(tokens, codes, latents), distance)
        losses["commitment"] = self.commitment * distance
        codes = self._on_grid(codes, channels_last)
        return CodePosterior(z, codes, losses=losses, codebook_size=self.codebook_size, mask=mask)

    def _tokens(self, channels_last: Tensor) -> Tensor:
        """Reshape features [B, *grid, M * dim] to tokens [n, M, dim] in the space of the points."""
        return self.codebook.project(channels_last.reshape(-1, self.codebooks, self.features // self.codebooks).float())

    def _latents(self, codes: Tensor, mask: Tensor | None) -> int | Tensor:
        """Return the number of latents that count, given codes [n, M]; at least 1."""
        return max(codes.numel(), 1) if mask is None else (mask.sum() * self.codebooks).clamp_min(1)

    def _on_grid(self, codes: Tensor, channels_last: Tensor) -> Tensor:
        """Reshape codes [n, M] of features [B, *grid, C] to [B, *grid], or [B, *grid, M] with M > 1 codebooks."""
        return codes.reshape(*channels_last.shape[:-1], *([] if self.codebooks == 1 else [self.codebooks]))

    def _points(self, tokens: Tensor, learning: bool) -> Tensor:
        """Return the points to quantise `tokens` with; a recomputation uses those of the pass that it repeats."""
        points = self.codebook.points.detach()
        if self.training and is_recomputation():
            points = self._in_use.recall(tokens, points)
        if learning:
            self._in_use.remember(tokens, points)
        return points


class FactorizedQuantizer(DiscreteBottleneck):
    """Quantises in a space of few dimensions: project down, quantise, project up, as in ViT-VQGAN (Yu et al. 2022).

        quantized, codes, loss = FactorizedQuantizer.of(features=64, dim=8, codebook_size=512)(features)

    Args:
        features: channels of the features and of the latents.
        quantizer: quantises the projected features; its `features` is the number of dimensions of that space.
    """

    def __init__(self, features: int, quantizer: VectorQuantizer | FSQ):
        super().__init__()
        self.features = self.channels = features
        self.codebook_size, self.codebooks = quantizer.codebook_size, quantizer.codebooks
        self.down = nn.Linear(features, quantizer.features)
        self.quantizer = quantizer
        self.up = nn.Linear(quantizer.channels, features)

    @classmethod
    def of(cls, features: int, dim: int, codebook_size: int, **settings: Any) -> FactorizedQuantizer:
        """Return a quantiser of vectors of `dim` dimensions; `settings` are those of `VectorQuantizer`."""
        return cls(features, VectorQuantizer(dim, codebook_size, **settings))

    def freeze(self) -> None:
        """Permanently stop the codebook from learning; the projections continue to learn."""
        if isinstance(self.quantizer, VectorQuantizer):
            self.quantizer.freeze()

    def forward(self, features: Tensor, mask: Tensor | None = None) -> CodePosterior:
        """Quantise features [B, `features`, *grid]; see `Bottleneck.forward`.

        Raises:
            NarrowsError: if the features have another number of channels.
        """
        if features.ndim < 2 or features.shape[1] != self.features:
            raise NarrowsError(f"features must be [B, {self.features}, *grid], not {list(features.shape)}")
        require_floats(features)
        features = hide(features, mask)
        posterior = self.quantizer(_channelwise(self.down, features.to(self.down.weight.dtype)), mask)
        return posterior._replace(z=_channelwise(self.up, posterior.z).to(features.dtype))

    def embed(self, codes: Tensor) -> Tensor:
        """Return the latents z [B, `channels`, *grid] of codes [B, *grid], or [B, *grid, M] where M > 1."""
        return _channelwise(self.up, self.quantizer.embed(codes))

    def sample_prior(self, batch: int, grid: tuple[int, ...]) -> Tensor:
        """Return the latents [`batch`, `channels`, *grid] of codes drawn uniformly."""
        return _channelwise(self.up, self.quantizer.sample_prior(batch, grid))


def _channelwise(linear: nn.Linear, features: Tensor) -> Tensor:
    return linear(features.movedim(1, -1)).movedim(-1, 1)
