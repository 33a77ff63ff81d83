"""One training step of the vector quantiser, compared with vector-quantize-pytorch on the same input.

A step is forward, backward and codebook update, for features [B, N, D] in float32 with a given gradient of the latents.
Times are medians of interleaved repeats; the bare matrix product, tokens x codebook, writes to a preallocated buffer.
Memory is the peak of a step in a fresh process beyond what it held just before: resident memory on Linux (peak reset
through /proc/self/clear_refs), the allocator's memory on CUDA.

    python -m benchmarks.quantizer [--device cuda] [--threads 2] [--repeats 7]
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch
import vector_quantize_pytorch  # type: ignore[import-untyped]
from torch import Tensor

from benchmarks.memory import peak_mib
from benchmarks.timing import begin, head, medians
from narrows.bottlenecks.vector import VectorQuantizer

SHAPES = [(8192, 64, 512), (65536, 64, 1024), (16384, 256, 8192)]
TIMES = ["tokens, dim, K", "ours ms", "theirs ms", "theirs / ours", "matmul ms", "ours / matmul"]
MEMORY = ["ours peak MiB", "theirs peak MiB", "ours / theirs"]

Shape = tuple[int, int, int]
Quantise = Callable[[Tensor], tuple[Tensor, Tensor]]
Make = Callable[[int, int, str], Quantise]


def ours(dim: int, codebook_size: int, device: str) -> Quantise:
    """Return our quantiser, from features [B, N, D] to latents [B, N, D] and loss."""
    quantizer = VectorQuantizer(dim, codebook_size, commitment=0.25, care=[]).to(device)

    def quantise(features: Tensor) -> tuple[Tensor, Tensor]:
        latents, _, loss = quantizer(features.movedim(-1, 1))
        return latents.movedim(1, -1), loss

    return quantise


def theirs(dim: int, codebook_size: int, device: str) -> Quantise:
    """Return their quantiser with our decay and commitment weight, and its defaults otherwise."""
    quantizer = vector_quantize_pytorch.VectorQuantize(
        dim=dim, codebook_size=codebook_size, decay=0.99, commitment_weight=0.25
    ).to(device)

    def quantise(features: Tensor) -> tuple[Tensor, Tensor]:
        latents, _, loss = quantizer(features)
        return latents, loss.sum()

    return quantise


def step(quantise: Quantise, features: Tensor, gradient: Tensor) -> None:
    """Run one training step: forward with the codebook's update, and backward."""
    features.grad = None
    latents, loss = quantise(features)
    torch.autograd.backward([latents, loss], [gradient, torch.ones_like(loss)])


def inputs(tokens: int, dim: int, device: str) -> tuple[Tensor, Tensor]:
    """Return features [B, N, D] that require a gradient, and the gradient of their latents."""
    torch.manual_seed(0)
    shape = (8, tokens // 8, dim)
    return torch.randn(shape, device=device).requires_grad_(), torch.randn(shape, device=device)


def times(shape: Shape, device: str, repeats: int) -> list[float]:
    """Return median milliseconds of our step, their step and the matrix product tokens x codebook, interleaved."""
    tokens, dim, codebook_size = shape
    features, gradient = inputs(tokens, dim, device)
    mine, other = ours(dim, codebook_size, device), theirs(dim, codebook_size, device)
    rows = features.detach().view(tokens, dim)
    codebook = torch.randn(codebook_size, dim, device=device)
    scores = torch.empty(tokens, codebook_size, device=device)
    actions: list[Callable[[], object]] = [
        lambda: step(mine, features, gradient),
        lambda: step(other, features, gradient),
        lambda: torch.mm(rows, codebook.T, out=scores),
    ]
    return [1e3 * median for median in medians(actions, device, repeats)]


def step_peak_mib(make: Make, shape: Shape, device: str, threads: int) -> float:
    """Return the peak memory of one step beyond what was held before, in MiB; call it in a fresh process."""
    torch.set_num_threads(threads)
    tokens, dim, codebook_size = shape
    quantise = make(dim, codebook_size, device)
    step(quantise, *inputs(8, dim, device))  # libraries allocate memory of their own at the first call
    features, gradient = inputs(tokens, dim, device)
    return peak_mib(lambda: step(quantise, features, gradient), device)


def fresh_peak_mib(make: Make, shape: Shape, device: str, threads: int) -> float:
    """Return `step_peak_mib` measured in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(step_peak_mib, make, shape, device, threads).result()


def main() -> None:
    """Measure every shape and print the table."""
    settings = begin(__doc__)

    head(settings, TIMES + MEMORY)
    for shape in SHAPES:
        mine, other, matmul = times(shape, settings.device, settings.repeats)
        memory = [fresh_peak_mib(make, shape, settings.device, settings.threads) for make in (ours, theirs)]
        print(
            f"| {', '.join(map(str, shape))} "
            f"| {mine:.2f} | {other:.1f} | {other / mine:.1f} | {matmul:.2f} | {mine / matmul:.2f} "
            f"| {memory[0]:.0f} | {memory[1]:.0f} | {memory[0] / memory[1]:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
