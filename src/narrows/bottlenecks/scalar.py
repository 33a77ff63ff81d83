"""Finite scalar quantisation: each of a few bounded channels is rounded to a few levels, and nothing is learnt.

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

# The bounds exceed the outermost levels by this share, to keep atanh finite. With more than `_MOST` levels that would
# be half a level, and a level beyond the outermost would be reachable.
_MARGIN = 1e-3
_MOST = 1000


class FSQ(DiscreteBottleneck):
    """The bottleneck of finite scalar quantisation: z = round(f(z_e)) / floor(L / 2), channel by channel.

    f(z_e) = h tanh(z_e + s) - o bounds a channel to its L levels, the integers from -floor(L / 2) upwards: h is
    (L - 1) / 2 plus a thousandth of it; o is 1/2 if L is even, otherwise 0; s = atanh(o / h) makes f(0) = 0. Gradients
    pass straight through the rounding. Each position has one code per group of channels, whose digits, the least
    significant first, are the levels. Nothing is learnt, and there are no losses. All is computed in float32, even
    under autocast.

    Appendix A.1 has h a thousandth smaller, and tan for atanh: thresholds differ by 0.007 at most for L = 3 to 8.
    For L = 2 its s would put the only threshold at -3.8, far from features near 0, so s = 0 here.

    Args:
        levels: L of each channel of a group, from 2 to 1000; the codebook size K is their product. The paper uses
            8,6,5 (K = 240, for 2^8), 8,5,5,5 (1000, for 2^10), 7,5,5,5,5 (4375, for 2^12) and 8,8,8,6,5 (15360, for
            2^14).
        codebooks: M, groups of channels and so codes per position (1 in the paper).

    Raises:
        NarrowsError: if there are no levels or groups, a level is out of range, or K does not fit 64-bit integers.
    """

    levels: Tensor
    radix: Tensor

    def __init__(self, levels: list[int], codebooks: int = 1):
        super().__init__()
        if not levels or not all(2 <= each <= _MOST for each in levels):
            raise NarrowsError(f"levels must be a number from 2 to {_MOST} per channel, such as 8,5,5,5, not {levels}")
        if codebooks < 1:
            raise NarrowsError(f"codebooks must be at least 1, not {codebooks}")
        self.features = self.channels = codebooks * len(levels)
        self.codebook_size, self.codebooks = prod(levels), codebooks
        if self.codebook_size >= 2**63:
            raise NarrowsError(f"the product of levels {levels} must be below 2^63: use fewer, and more codebooks")
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        self.register_buffer("radix", torch.tensor([prod(levels[:c]) for c in range(len(levels))]), persistent=False)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> CodePosterior:
        """Quantise features [B, M * len(`levels`), *grid]; the channels of a group are adjacent.

        See `Bottleneck.forward` for the mask.

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
        # The difference and the sum are exact in floating point, so z equals `embed` of the codes.
        rounded = bounded + (bounded.round() - bounded).detach()
        half_width = self.levels // 2
        # NaN features get a code as well; z, and so the loss, stays NaN and shows the problem.
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
        """Return the latents z [B, `channels`, *grid] in [-1, 1] of codes [B, *grid], or [B, *grid, M] where M > 1.

        Raises:
            NarrowsError: if a code is outside [0, K), or the last dimension is not M.
        """
        half_width = self.levels // 2
        digits = self.check_codes(codes).unsqueeze(-1) // self.radix % self.levels
        return ((digits - half_width) / half_width).flatten(-2).movedim(-1, 1).contiguous()

    def sample_prior(self, batch: int, grid: tuple[int, ...]) -> Tensor:
        """Return the latents [`batch`, `channels`, *grid] of codes drawn uniformly."""
        shape = (batch, *grid) if self.codebooks == 1 else (batch, *grid, self.codebooks)
        return self.embed(torch.randint(self.codebook_size, shape, device=self.levels.device))

    def _usage(self, codes: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
        """Return the statistics of codes [B, *grid, M]."""
        counted = codes if mask is None else codes.masked_fill(~mask.unsqueeze(-1), self.codebook_size)
        return _statistics(counted.flatten(0, -2), self.codebook_size)

    def _bound(self, tokens: Tensor) -> Tensor:
        """Return the bounded values f(z_e) of tokens z_e [..., C]."""
        half = (self.levels - 1) * ((1 + _MARGIN) / 2)
        offset = (1 - self.levels % 2) / 2
        shift = torch.atanh(offset / half) * (self.levels > 2)
        return half * torch.tanh(tokens + shift) - offset


def _statistics(codes: Tensor, size: int) -> dict[str, Tensor]:
    """Return `usage_statistics` of codes [n, M] in time and memory of order n, since K = `size` may be huge here.

    A code of K marks a token that does not count.
    """
    values = size
    if size > len(codes):
        # Count each code under its first index in sorted order, of which there are at most n.
        ordered, _ = codes.T.contiguous().sort(1)
        places, values = torch.searchsorted(ordered, ordered), len(codes)
        codes = places.masked_fill(ordered == size, values).T
    counts = count(codes, values)
    used = (counts > 0).to(counts.dtype).sum(1)
    return {"perplexity": perplexity(counts).mean(), "usage": used.mean() / size}
