"""Finite scalar quantisation: each of a few bounded channels is rounded to a handful of levels, and nothing is learnt.

F. Mentzer, D. Minnen, E. Agustsson, M. Tschannen, "Finite Scalar Quantization: VQ-VAE Made Simple", section 3.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from narrows.bottlenecks.mask import hide
from narrows.bottlenecks.posterior import CodePosterior, DiscreteBottleneck, require_floats
from narrows.bottlenecks.usage import count, perplexity
from narrows.errors import NarrowsError
from narrows.tracing import is_traced

__all__ = ["FSQ"]

# The bounds lie this share beyond the outermost levels, so that atanh is finite; with more levels than `_MOST` that
# would be half a level, and one beyond the outermost in reach.
_MARGIN = 1e-3
_MOST = 1000


class FSQ(DiscreteBottleneck):
    """The bottleneck of finite scalar quantisation: z = round(f(z_e)) / floor(L / 2), channel by channel.

    f(z_e) = h tanh(z_e + s) - o bounds a channel to its L levels, the integers from -floor(L / 2) on: h is (L - 1) / 2
    and a thousandth more; o is 1/2 where L is even, else 0; s = atanh(o / h) makes f(0) = 0. Gradients pass the
    rounding as they are. A position has a code of each group of channels, whose digits, least first, are its levels.
    Nothing is learnt, and there are no losses. All is computed in float32 under any autocast.

    Appendix A.1 has h a thousandth less, and tan for atanh: thresholds move by 0.007 at most for L = 3 to 8.
    With L = 2 that s would put the one threshold at -3.8, far from features near 0, and so s = 0 there.

    Args:
        levels: L of each channel of a group, from 2 to 1000; the codebook size K is their product. The paper's are
            8,6,5 (K = 240, for 2^8), 8,5,5,5 (1000, for 2^10), 7,5,5,5,5 (4375, for 2^12) and 8,8,8,6,5 (15360, for
            2^14).
        codebooks: M, groups of channels, codes per position (1 in the paper).

    Raises:
        NarrowsError: if there are no levels or groups, a level is out of range, or K is beyond integers of 64 bits.
    """

    levels: Tensor
    radix: Tensor

    def __init__(self, levels: list[int], codebooks: int = 1):
        super().__init__()
        if not levels or not all(2 <= each <= _MOST for each in levels):
            raise NarrowsError(f"levels must be a number from 2 to {_MOST} for each channel, as 8,5,5,5, not {levels}")
        if codebooks < 1:
            raise NarrowsError(f"codebooks must be at least 1, not {codebooks}")
        self.features = self.channels = codebooks * len(levels)
        self.codebook_size, self.codebooks = prod(levels), codebooks
        if self.codebook_size >= 2**63:
            raise NarrowsError(f"the product of levels {levels} must be below 2^63: use fewer, and more codebooks")
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        self.register_buffer("radix", torch.tensor([prod(levels[:c]) for c in range(len(levels))]), persistent=False)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> CodePosterior:
        """Quantise features [B, M * len(`levels`), *grid], those of a group next to each other.

        For the mask see `Bottleneck.forward`.

        Raises:
            NarrowsError: if the features have another number of channels.
        """
        if features.ndim < 2 or features.shape[1] != self.features:
            raise NarrowsError(
                f"features must be [B, {self.features}, *grid] for {self.codebooks} codebook(s) of {len(self.levels)} "
                f"levels, not {list(features.shape)}: change the number of either, or the encoder's channels"
            )
        require_floats(features)
        bounded = self._bound(hide(features, mask).movedim(1, -1).unflatten(-1, (self.codebooks, -1)).float())
        # The difference and the sum are both exact in floating point, so that z is what `embed` makes of the codes.
        rounded = bounded + (bounded.round() - bounded).detach()
        half_width = self.levels // 2
        # A feature that is not a number gets a code all the same: z, and with it the loss, says what happened.
        whole = rounded.detach()
        digits = (whole if is_traced() else whole.nan_to_num()).long() + half_width
        codes = (digits * self.radix).sum(-1)
        return CodePosterior(
            z=(rounded / half_width).flatten(-2).movedim(-1, 1).to(features.dtype),
            codes=codes.squeeze(-1) if self.codebooks == 1 else codes,
            losses={},
            statistics={} if is_traced() else self._usage(codes, mask),
            codebook_size=self.codebook_size,
            mask=mask,
        )

    def embed(self, codes: Tensor) -> Tensor:
        """The latents z [B, `channels`, *grid] in [-1, 1] of codes [B, *grid], or [B, *grid, M] where M > 1.

        Raises:
            NarrowsError: if a code is outside [0, K), or the last dimension is not M.
        """
        half_width = self.levels // 2
        digits = self.check_codes(codes).unsqueeze(-1) // self.radix % self.levels
        return ((digits - half_width) / half_width).flatten(-2).movedim(-1, 1).contiguous()

    def sample_prior(self, batch: int, grid: tuple[int, ...]) -> Tensor:
        """The latents [`batch`, `channels`, *grid] of codes drawn uniformly."""
        shape = (batch, *grid) if self.codebooks == 1 else (batch, *grid, self.codebooks)
        return self.embed(torch.randint(self.codebook_size, shape, device=self.levels.device))

    def _usage(self, codes: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
        """The statistics of codes [B, *grid, M]."""
        counted = codes if mask is None else codes.masked_fill(~mask.unsqueeze(-1), self.codebook_size)
        return _statistics(counted.flatten(0, -2), self.codebook_size)

    def _bound(self, tokens: Tensor) -> Tensor:
        """The bounded values f(z_e) of tokens z_e [..., C]."""
        half = (self.levels - 1) * ((1 + _MARGIN) / 2)
        offset = (1 - self.levels % 2) / 2
        shift = torch.atanh(offset / half) * (self.levels > 2)
        return half * torch.tanh(tokens + shift) - offset


def _statistics(codes: Tensor, size: int) -> dict[str, Tensor]:
    """`usage_statistics` of codes [n, M], at a cost of order n alone: no codebook bounds K = `size` here.

    A code of K stands for a token that does not count.
    """
    values = size
    if size > len(codes):
        # Codes are counted under the places where they first occur in order, of which there are n.
        ordered, _ = codes.T.contiguous().sort(1)
        places, values = torch.searchsorted(ordered, ordered), len(codes)
        codes = places.masked_fill(ordered == size, values).T
    counts = count(codes, values)
    used = (counts > 0).to(counts.dtype).sum(1)
    return {"perplexity": perplexity(counts).mean(), "usage": used.mean() / size}
