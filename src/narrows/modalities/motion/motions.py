"""The motions of a split, and training windows of them in random order."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from narrows.data.batch import Batch
from narrows.data.clips import Clips
from narrows.modalities.motion.standardised import Standardised

__all__ = ["Motions"]


@dataclass
class Motions(Clips):
    """Clips of the motions of a split, as features float32 [total, C].

    Args:
        scale: how features become model inputs.
    """

    scale: Standardised

    def numbered(self, classes: list[str]) -> Motions:
        """Return the same clips with labels that are indices into `classes`; -1 where there is none."""
        return super().numbered(classes) if self.classes else self.relabelled(classes, None)

    def batch(self, features: Tensor, lengths: Tensor, labels: Tensor) -> Batch:
        """Return features float32 [B, T, C] standardised, [B, C, T], masked beyond `lengths` int64 [B] frames.

        The condition is None if the data have no classes.
        """
        mean, std = (torch.from_numpy(part).to(features.device) for part in (self.scale.mean, self.scale.std))
        real = torch.arange(features.shape[1], device=features.device) < lengths.unsqueeze(1)
        x = ((features - mean) / std).where(real.unsqueeze(2), 0)
        return Batch(x.transpose(1, 2).contiguous(), real, labels if self.classes else None)
