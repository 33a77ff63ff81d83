"""Residual quantisation: a stack of codebooks, each of which quantises the residual of those before it.

N. Zeghidour et al., "SoundStream: An End-to-End Neural Audio Codec", section III-C, algorithm 1; D. Lee et al.,
"Autoregressive Image Generation using Residual Quantization", equations 4-7.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from narrows.bottlenecks.posterior import CodePosterior, DiscreteBottleneck, require_floats
from narrows.bottlenecks.vector import VectorQuantizer
from narrows.errors import NarrowsError

__all__ = ["ResidualQuantizer"]


class ResidualQuantizer(DiscreteBottleneck):
    """M vector quantisers in a row: r_1 = z_e, r_{m+1} = r_m - e_m with e_m the vector nearest to r_m, z = sum_m e_m.

        quantized, codes, loss = ResidualQuantizer.of(dim=64, codebook_size=512, depth=4)(features)

    The gradient of z passes straight through to the features, once in total and not once per stage; the commitment loss
    of every stage, b ||r_m - sg[e_m]||^2, reaches them too. Losses are summed over the stages, statistics are averaged.
    The codebooks learn as in `VectorQuantizer`. Everything is computed in float32, even under autocast.

    Args:
        quantizer: makes the quantiser of a stage, with one codebook. Do not use `CosineCodebook`, which ignores the
            lengths of the residuals.
        depth: M, number of stages; every position has one code per stage.

    Raises:
        NarrowsError: if `depth` is below 1, or a stage has several codebooks.
    """

    def __init__(self, quantizer: Callable[[], VectorQuantizer], depth: int):
        super().__init__()
        if depth < 1:
            raise NarrowsError(f"depth must be at least 1, not {depth}")
        self.stages = cast(Sequence[VectorQuantizer], nn.ModuleList(quantizer() for _ in range(depth)))
        first = self.stages[0]
        if first.codebooks != 1:
            raise NarrowsError(f"a residual stage has 1 codebook, not {first.codebooks}: set depth to have more codes")
        self.features = self.channels = first.channels
        self.codebook_size, self.codebooks = first.codebook_size, depth

    @classmethod
    def of(cls, dim: int, codebook_size: int, depth: int, **settings: Any) -> ResidualQuantizer:
        """Return a stack of `depth` identical quantisers; `settings` are those of `VectorQuantizer`."""
        return cls(partial(VectorQuantizer, dim, codebook_size, **settings), depth)

    def freeze(self) -> None:
        """Permanently stop all codebooks from learning, even in training mode."""
        for stage in self.stages:
            stage.freeze()

    def forward(self, features: Tensor, mask: Tensor | None = None) -> CodePosterior:
        """Quantise features [B, `features`, *grid], of any number of grid dimensions; see `Bottleneck.forward`.

        Raises:
            NarrowsError: if the features have another number of channels.
        """
        require_floats(features)
        residual = features.float()
        posteriors: list[CodePosterior] = []
        for stage in self.stages:
            posteriors.append(stage(residual, mask))
            # Detached: otherwise the straight-through gradient of z cancels that of the residual, and no later
            # commitment loss reaches the features.
            residual = residual - posteriors[-1].z.detach()
        first, *rest = posteriors
        # Only the first stage passes on the gradient of z; with M stages it would be passed M times.
        z = sum((posterior.z.detach() for posterior in rest), start=first.z)
        codes = torch.stack([posterior.codes for posterior in posteriors], -1)
        losses = [posterior.losses for posterior in posteriors]
        statistics = [posterior.statistics for posterior in posteriors]
        return CodePosterior(
            z=z.to(features.dtype),
            codes=codes if rest else first.codes,
            losses={name: _together(losses, name).sum() for name in first.losses},
            statistics={name: _together(statistics, name).mean() for name in first.statistics},
            codebook_size=self.codebook_size,
            mask=mask,
        )

    def embed(self, codes: Tensor) -> Tensor:
        """Return the latents z [B, `channels`, *grid] of codes [B, *grid, M], or [B, *grid] where M = 1.

        Raises:
            NarrowsError: if a code is outside [0, K), or the last dimension is not M.
        """
        parts = self.check_codes(codes).unbind(-1)
        first, *rest = (stage.embed(part) for stage, part in zip(self.stages, parts, strict=True))
        return sum((part.float() for part in rest), start=first.float()).to(first.dtype)

    def sample_prior(self, batch: int, grid: tuple[int, ...]) -> Tensor:
        """Return the latents [`batch`, `channels`, *grid] of codes drawn uniformly."""
        shape = (batch, *grid) if self.codebooks == 1 else (batch, *grid, self.codebooks)
        return self.embed(torch.randint(self.codebook_size, shape, device=self.stages[0].codebook.vectors.device))


def _together(stages: list[dict[str, Tensor]], name: str) -> Tensor:
    return torch.stack([figures[name] for figures in stages])
