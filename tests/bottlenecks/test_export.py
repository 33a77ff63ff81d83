"""Exported quantisers give the codes of the eager ones, whatever the batch and the grid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from narrows.bottlenecks import (
    FSQ,
    CosineCodebook,
    DiscreteBottleneck,
    FactorizedQuantizer,
    LearntCodebook,
    ResidualQuantizer,
    VectorQuantizer,
)
from narrows.errors import NarrowsError

QUANTISERS: dict[str, Callable[[], DiscreteBottleneck]] = {
    "vector": lambda: VectorQuantizer(dim=4, codebook_size=100),
    "learnt": lambda: VectorQuantizer(dim=4, codebook_size=100, codebook=LearntCodebook),
    "cosine": lambda: VectorQuantizer(dim=4, codebook_size=100, codebook=CosineCodebook),
    "two codebooks": lambda: VectorQuantizer(dim=2, codebook_size=30, codebooks=2),
    "factorised": lambda: FactorizedQuantizer.of(4, dim=2, codebook_size=30),
    "residual": lambda: ResidualQuantizer.of(dim=4, codebook_size=30, depth=3),
    "fsq": lambda: FSQ([8, 5, 5, 5]),
}
SIZES = [(1, 1, 1), (7, 9, 3), (40, 5, 5), (2, 30, 30)]
"""Batch, height and width: 1,000 tokens and more, none of them those of the example."""
DYNAMIC = ({0: Dim("batch", max=4096), 2: Dim("height", max=4096), 3: Dim("width", max=4096)},)


@pytest.fixture(params=QUANTISERS)
def quantiser(request: pytest.FixtureRequest) -> DiscreteBottleneck:
    torch.manual_seed(0)
    made = QUANTISERS[request.param]()
    for name, values in made.state_dict().items():
        if name.endswith("vectors"):
            values.copy_(torch.randn(values.shape))
    return made.eval()


def features(size: tuple[int, int, int]) -> Tensor:
    batch, height, width = size
    return torch.randn(batch, 4, height, width, generator=torch.Generator().manual_seed(sum(size)))


def example() -> Tensor:
    return torch.randn(3, 4, 6, 5)


class Codes(nn.Module):
    """The latents and the codes alone."""

    def __init__(self, quantiser: nn.Module) -> None:
        super().__init__()
        self.quantiser = quantiser

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, codes, _ = self.quantiser(x)
        return z, codes


def test_an_exported_program_takes_any_batch_and_grid(quantiser: DiscreteBottleneck) -> None:
    program = torch.export.export(quantiser, (example(),), dynamic_shapes=DYNAMIC).module()
    for size in SIZES:
        x = features(size)
        found, expected = program(x), quantiser(x)
        assert torch.equal(found.codes, expected.codes)
        torch.testing.assert_close(found.z, expected.z)
        torch.testing.assert_close(found.loss, expected.loss)


def test_a_trace_takes_any_batch_and_grid(quantiser: DiscreteBottleneck) -> None:
    traced = torch.jit.trace(Codes(quantiser), example(), check_trace=False)
    for size in SIZES:
        x = features(size)
        z, codes = traced(x)
        assert torch.equal(codes, quantiser(x).codes)
        torch.testing.assert_close(z, quantiser(x).z)


def test_onnx_takes_any_batch_and_grid(quantiser: DiscreteBottleneck, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    file = tmp_path / "quantiser.onnx"
    torch.onnx.export(Codes(quantiser), (example(),), file, dynamo=True, dynamic_shapes=DYNAMIC, verbose=False)
    session = onnxruntime.InferenceSession(file)
    (name,) = [taken.name for taken in session.get_inputs()]
    for size in SIZES:
        x = features(size)
        z, codes = session.run(None, {name: x.numpy()})
        assert torch.equal(torch.from_numpy(codes), quantiser(x).codes)
        torch.testing.assert_close(torch.from_numpy(z), quantiser(x).z, rtol=1e-4, atol=1e-5)


def test_exact_ties_go_to_the_lowest_code_in_an_exported_program_too() -> None:
    quantiser = VectorQuantizer(dim=4, codebook_size=100).eval()
    quantiser.codebook.vectors[0, 1:] = quantiser.codebook.vectors[0, 0]
    program = torch.export.export(quantiser, (example(),), dynamic_shapes=DYNAMIC).module()
    assert not program(features((2, 5, 5))).codes.any()


def test_codes_of_an_exported_embedding_are_those_of_the_eager_one(quantiser: DiscreteBottleneck) -> None:
    class Embedding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.quantiser = quantiser

        def forward(self, codes: Tensor) -> Tensor:
            return self.quantiser.embed(codes)

    dynamic = ({0: Dim("batch", max=4096), 1: Dim("height", max=4096), 2: Dim("width", max=4096)},)
    program = torch.export.export(Embedding(), (quantiser(example()).codes,), dynamic_shapes=dynamic).module()
    for size in SIZES:
        codes = quantiser(features(size)).codes
        torch.testing.assert_close(program(codes), quantiser.embed(codes))


def test_a_quantiser_in_training_is_not_exported() -> None:
    with pytest.raises(NarrowsError, match="exported only in eval mode"):
        torch.jit.trace(Codes(VectorQuantizer(dim=4, codebook_size=100)), example())
