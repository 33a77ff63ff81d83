"""Encoding with the autoregressive posterior: cached keys and values, compared with a full forward pass per code.

256 codes on a 16x16 grid, K = 512, 8 layers of width 256, 16 images at once, float32, without the preceding encoder. A
full forward pass runs the transformer over the image's features and the codes so far. Both use the same random numbers
and must draw the same codes. The limit is the matrix products of the cached encoder alone: the same shapes and order,
on preallocated buffers. Times are seconds for the 16 images; ours and the limit are medians of interleaved repeats, and
the full forward passes run once.

    python -m benchmarks.autoregressive [--device cuda] [--threads 2] [--repeats 7]
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor

from benchmarks.timing import begin, head, medians, seconds
from narrows.bottlenecks import Autoregressive
from narrows.bottlenecks.autoregressive import pick

BATCH, GRID, CODEBOOK_SIZE = 16, (16, 16), 512
WIDTH, LAYERS, HEADS = 256, 8, 8
LENGTH = prod(GRID)
HEADINGS = ["full forwards s", "ours s", "full / ours", "matmuls s", "ours / matmuls"]


def full_forwards(bottleneck: Autoregressive, features: Tensor) -> Tensor:
    """Draw codes [1, B, *grid] as the posterior's `sample` does, with a full pass over all previous codes for each."""
    uniforms = torch.rand(LENGTH, BATCH, 1, 1, device=features.device)
    codes = torch.zeros(BATCH, 1, LENGTH, dtype=torch.long, device=uniforms.device)
    for n, uniform in enumerate(uniforms):
        logits = bottleneck.writer(codes[..., : n + 1], bottleneck.writer.read(features), GRID)[:, :, n]
        codes[..., n] = pick(logits, uniform)
    return codes.view(1, BATCH, *GRID)


def products(device: str) -> Callable[[], None]:
    """Return the matrix products of encoding `BATCH` images, as a function."""
    by_layer = [(WIDTH, 3 * WIDTH), (WIDTH, WIDTH), (WIDTH, WIDTH), (WIDTH, WIDTH)]
    by_layer += [(WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH)]
    shapes = LAYERS * by_layer + [(WIDTH, CODEBOOK_SIZE)]
    vectors = {k: torch.randn(BATCH, k, device=device) for k, _ in shapes}
    matrices = [torch.randn(m, k, device=device).T for k, m in shapes]
    out = {m: torch.empty(BATCH, m, device=device) for _, m in shapes}
    parts = BATCH * HEADS
    query = torch.randn(parts, 1, WIDTH // HEADS, device=device)
    # Keys and values of the codes and of the image for each layer, which do not stay in a processor's cache.
    kept = torch.randn(LAYERS, 2, 2, parts, LENGTH, WIDTH // HEADS, device=device)
    image = torch.randn(BATCH * LENGTH, WIDTH, device=device)
    by_image = [torch.randn(2 * WIDTH, WIDTH, device=device).T for _ in range(LAYERS)]
    of_image = torch.empty(BATCH * LENGTH, 2 * WIDTH, device=device)

    def run() -> None:
        for matrix in by_image:
            torch.mm(image, matrix, out=of_image)
        for n in range(1, LENGTH + 1):
            for matrix in matrices:
                torch.mm(vectors[len(matrix)], matrix, out=out[matrix.shape[1]])
            for (keys, values), (image_keys, image_values) in kept:
                torch.bmm(torch.bmm(query, keys[:, :n].transpose(1, 2)), values[:, :n])
                torch.bmm(torch.bmm(query, image_keys.transpose(1, 2)), image_values)

    return run


@torch.inference_mode()
def main() -> None:
    """Measure both ways to encode and the limit, and print the table."""
    settings = begin(__doc__)
    torch.manual_seed(0)
    bottleneck = Autoregressive(8, CODEBOOK_SIZE, width=WIDTH, layers=LAYERS, heads=HEADS).to(settings.device)
    features = torch.randn(BATCH, WIDTH, *GRID, device=settings.device)

    actions = [lambda: bottleneck(features).sample(), products(settings.device)]
    ours, limit = medians(actions, settings.device, settings.repeats)

    torch.manual_seed(1)
    codes = bottleneck(features).sample()
    torch.manual_seed(1)
    found: list[Tensor] = []
    full = seconds(lambda: found.append(full_forwards(bottleneck, features)), settings.device)
    if not torch.equal(codes, found[0]):
        raise SystemExit("the codes differ: the cached logits are not those of a full forward")

    head(settings, HEADINGS, f"Seconds for the {LENGTH} codes of {BATCH} images; equal codes")
    print(f"| {full:.1f} | {ours:.2f} | {full / ours:.0f} | {limit:.2f} | {ours / limit:.2f} |")


if __name__ == "__main__":
    main()
