"""A causal transformer as a prior over codes on a grid of any number of dimensions, in row order.

Esser et al. 2021, "Taming transformers for high-resolution image synthesis", section 3.2. What is known of an example,
its class, is a memory of learnt vectors; a step keeps the keys and values of the codes before it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from narrows.errors import NarrowsError
from narrows.networks.causal import Memory
from narrows.networks.codes import CodeState, CodeTransformer
from narrows.priors.prior import CodeSpec, Prior

__all__ = ["TransformerPrior"]


class TransformerPrior(Prior):
    """Causal transformer over all codes of a grid; see `narrows.networks.codes.CodeTransformer`.

    Every code is given all codes before it; the work of a code grows with their number.

    Args:
        spec: the codes to model.
        width: W, features.
        layers: blocks.
        heads: attention heads of a block, which divide the width.
        memory: P, the learnt vectors of each class, or of all examples without classes, that every code attends to.
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

    def logits(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """Unnormalised log p(code | earlier codes, label), [B, *grid, M, K], of all codes at once."""
        codes = self.check_codes(codes)
        sequences, memory = codes.view(len(codes), 1, self.length), self._memory(labels, len(codes))
        return self.network(sequences, memory, self.grid).view(*codes.shape, self.codebook_size)

    @torch.no_grad()
    def begin(self, batch: int, labels: Tensor | None = None) -> CodeState:
        """The caches of `batch` empty examples, to be used before the weights change; steps give no gradient."""
        return self.network.begin(self._memory(labels, batch), self.grid)

    @torch.no_grad()
    def step(self, state: CodeState, previous: Tensor | None) -> Tensor:
        """Take in the code before ([B]; None at the first) and return the logits of the next code, [B, K]."""
        return state.step(None if previous is None else previous.unsqueeze(1)).squeeze(1)

    def _memory(self, labels: Tensor | None, batch: int) -> list[Memory]:
        """The keys and values of the vectors of each example's class for each block."""
        labels = self.check_labels(labels, batch)
        vectors = self.condition.expand(batch, -1, -1) if labels is None else self.condition[labels]
        return self.network.read(vectors)
