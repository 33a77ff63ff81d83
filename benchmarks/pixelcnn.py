"""Sampling from the gated PixelCNN prior: incrementally, compared with a full forward pass per position.

A 32x32 grid of codes, K = 512, 15 layers of 64 channels, float32. Times are seconds per image, medians of interleaved
repeats. A full forward pass costs the same at every position, so a few are timed and scaled to the grid. The limit
is the matrix products of the incremental sampler alone: the same shapes and order, on preallocated buffers.

    python -m benchmarks.pixelcnn [--device cuda] [--threads 2] [--repeats 7]
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.timing import begin, head, medians
from narrows.networks.pixelcnn import PixelCNN
from narrows.priors.pixelcnn import GatedPixelCNN
from narrows.priors.prior import CodeSpec
from narrows.priors.sampler import sample
from narrows.sampling import draw

GRID = (32, 32)
SPEC = CodeSpec(GRID, codebooks=1, codebook_size=512, classes=0)
FORWARDS = {1: 8, 16: 2}
"""Number of full forward passes to time, by the number of images at once."""
HEADINGS = ["images", "full forwards s", "ours s", "full / ours", "matmuls s", "ours / matmuls"]


def full_forwards(prior: GatedPixelCNN, codes: Tensor, count: int) -> None:
    """Draw the last `count` codes, with a pass over the whole grid for each."""
    flat = codes.view(len(codes), -1)
    for n in range(prior.length - count, prior.length):
        logits = prior.logits(codes).view(len(codes), prior.length, -1)[:, n]
        flat[:, n] = draw(logits, torch.rand(len(codes), 1, device=codes.device))


def products(network: PixelCNN, grid: tuple[int, ...], batch: int) -> Callable[[], None]:
    """Return the matrix products of sampling `batch` grids, as a function."""
    height, width = grid
    device = network.left.weight.device
    depth, channels, first = len(network.layers), network.left.in_channels, network.first_reach
    taps = network.layers[0].reach + 1
    hidden, size = network.head.weight.shape[1:]
    row = batch * width
    by_row = [(row, first * (2 * first + 1) * channels, channels)]
    by_row += depth * [(row, taps * (2 * taps - 1) * channels, 2 * channels), (row, 2 * channels, 2 * channels)]
    if network.local is not None:
        by_row += depth * [(row, network.local.in_channels, 4 * channels)]
    by_position = depth * [(batch, taps * channels, 2 * channels), (batch, channels, channels)]
    by_position += [(batch, depth * channels, channels), (batch, channels, hidden), (batch, hidden, size)]
    rows, positions = ([operands(shape, device) for shape in shapes] for shapes in (by_row, by_position))

    def run() -> None:
        for _ in range(height):
            for a, b, out in rows:
                torch.mm(a, b, out=out)
            for _ in range(width):
                for a, b, out in positions:
                    torch.mm(a, b, out=out)

    return run


def operands(shape: tuple[int, int, int], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return matrices of the sizes (n, k), (k, m) and (n, m) for a product."""
    n, k, m = shape
    return torch.randn(n, k, device=device), torch.randn(k, m, device=device), torch.empty(n, m, device=device)


@torch.inference_mode()
def main() -> None:
    """Measure one image and sixteen at once, and print the table."""
    settings = begin(__doc__)
    torch.manual_seed(0)
    prior = GatedPixelCNN(SPEC).to(settings.device).eval()

    actions: list[Callable[[], object]] = []
    factors: list[float] = []  # from the time of an action to that of one image
    for batch, count in FORWARDS.items():
        codes = torch.randint(SPEC.codebook_size, (batch, *GRID), device=settings.device)
        actions += [
            partial(full_forwards, prior, codes, count),
            partial(sample, prior, batch),
            products(prior.network, GRID, batch),
        ]
        factors += [prior.length / count / batch, 1 / batch, 1 / batch]
    found = medians(actions, settings.device, settings.repeats)
    times = [factor * median for factor, median in zip(factors, found, strict=True)]

    scaled = f"full forwards scaled to {prior.length} from {FORWARDS[1]} (1 image) and {FORWARDS[16]} (16)"
    head(settings, HEADINGS, f"Seconds an image; {scaled}")
    for i, batch in enumerate(FORWARDS):
        full, ours, limit = times[3 * i : 3 * i + 3]
        print(f"| {batch} | {full:.1f} | {ours:.3f} | {full / ours:.0f} | {limit:.3f} | {ours / limit:.2f} |")


if __name__ == "__main__":
    main()
