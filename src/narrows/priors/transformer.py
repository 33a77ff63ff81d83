"""A causal transformer as a prior over codes on a grid of any number of dimensions, in row order.

Esser et al. 2021, "Taming transformers for high-resolution image synthesis", section 3.2. The label selects learnt
vectors, a memory that every code attends to; steps cache the keys and values of the codes before.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from narrows.errors import NarrowsError
from narrows.networks.causal import Memory
from narrows.networks.codes import CodeState, CodeTransformer
from narrows.priors.condition import Condition
from narrows.priors.prior import CodeSpec, Prior

__all__ = ["TransformerPrior"]


class TransformerPrior(Prior):
    """Causal transformer over all codes of a grid; see `narrows.networks.codes.CodeTransformer`.

    Every code depends on all codes before it, on the label, and on the features of its own position and of all earlier
    positions; the cost of a code grows with the number of codes before it. The features enter by a linear map, added to
    the embedding of their position.

    Args:
        spec: the codes to model.
        width: W, features.
        layers: blocks.
        heads: attention heads of a block, which divide the width.
        memory: P, the number of learnt vectors of each class, or without classes of all examples.
        dropout: probability with which a feature that a sublayer adds is dropped in training.

    Raises:
        NarrowsError: if `layers` or `memory` is below 1, `heads` does not divide `width`, or `dropout` is not in
            [0, 1).
    """

    def __init__(
        self,
        spec: CodeSpec,
        width: int = 256,
        layers: int = 8,
        heads: int = 8,
        memory: int = 8,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(spec)
        if memory < 1:
            raise NarrowsError(f"memory must be at least 1, not {memory}")
        self.network = CodeTransformer(spec.codebooks, spec.codebook_size, width, layers, heads, dropout)
        self.condition = nn.Parameter(torch.randn(max(1, spec.classes), width, memory))
        self.features = nn.Linear(spec.channels, width, bias=False) if spec.channels else None
        if self.features is not None:
            nn.init.normal_(self.features.weight, std=spec.channels**-0.5)

    def logits(self, codes: Tensor, condition: Condition | Tensor | None = None) -> Tensor:
        """Return the logits of p(code | codes before it, condition) of all codes at once, [B, *grid, M, K]."""
        codes = self.check_codes(codes)
        memory, features = self._condition(condition, len(codes))
        sequences = codes.view(len(codes), 1, self.length)
        return self.network(sequences, memory, self.grid, features).view(*codes.shape, self.codebook_size)

    @torch.no_grad()
    def begin(self, batch: int, condition: Condition | Tensor | None = None, past: Tensor | None = None) -> CodeState:
        """Return the state of `batch` examples after the codes of `past`, [B, n], read in one parallel pass."""
        past = self.check_past(past, batch)
        memory, features = self._condition(condition, batch)
        return self.network.begin(memory, self.grid, features=features, past=past.unsqueeze(1))

    @torch.no_grad()
    def step(self, state: CodeState, previous: Tensor | None) -> Tensor:
        """Append a code, [B] (None at the first step), and return the logits of the next code, [B, K]."""
        return state.step(None if previous is None else previous.unsqueeze(1)).squeeze(1)

    def _condition(self, condition: Condition | Tensor | None, batch: int) -> tuple[list[Memory], Tensor | None]:
        """Return the keys and values of each label's vectors by block, and the terms of the positions, [B, P, W]."""
        labels, features = self.check_condition(condition, batch)
        vectors = self.condition.expand(batch, -1, -1) if labels is None else self.condition[labels]
        memory = self.network.read(vectors)
        if self.features is None or features is None:
            return memory, None
        terms = self.features(features.movedim(1, -1))
        return memory, terms.expand(-1, *self.grid, -1).reshape(batch, -1, terms.shape[-1])
