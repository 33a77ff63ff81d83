"""Imagining frames: a FramePixelCNN with caches compared with full forward passes and with its matrix products alone.

    python -m benchmarks.frames [--device cpu] [--threads 2] [--repeats 7]

Ten frames of 21x21 codes, K = 512, follow six given ones, with three features of each frame; the sizes are those of the
cpu variant of the recipe `frames`. For one stream and for sixteen at once, it times the sampler, forward passes for
each code (a few, scaled to all 4,410) over all frames and over the code's frame alone, which the codes drawn are
compared with, and the matrix products of the sampler. It also times a training step on four windows of eight frames.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.pixelcnn import operands, products
from benchmarks.timing import begin, head, medians
from narrows.priors import CodeSpec, Condition, FramePixelCNN, sample
from narrows.sampling import Sampling, draw

SPEC = CodeSpec((16, 21, 21), codebooks=1, codebook_size=512, classes=0, channels=3)
FRAME = 21 * 21
GIVEN, NEW = 6, 10
SETTINGS = {"frames": 4, "context_width": 64, "blocks": 6, "layers": 6, "width": 64, "head_width": 256}
FORWARDS = {1: 4, 16: 1}
"""Number of forward passes to time, by the number of streams."""
TRAINED = CodeSpec((8, 21, 21), codebooks=1, codebook_size=512, classes=0, channels=3)
BATCH = 4


def full_forwards(prior: FramePixelCNN, drawn: Tensor, features: Tensor, uniforms: Tensor, count: int) -> None:
    """Draw the last `count` codes, with a pass over all frames for each, and check that they are those `drawn`."""
    codes = drawn.clone().flatten(1)
    codes[:, -count:] = 0
    for n in range(prior.length - count, prior.length):
        logits = prior.logits(codes.view_as(drawn), Condition(features=features)).flatten(1, -2)[:, n]
        codes[:, n] = draw(logits, uniforms[:, n : n + 1])
    assert torch.equal(codes.view_as(drawn), drawn), "the caches change the codes"


def frame_forwards(prior: FramePixelCNN, drawn: Tensor, count: int) -> None:
    """Run the network of one frame `count` times."""
    context = torch.zeros(len(drawn), prior.context.before.out_channels, 21, 21, device=drawn.device)
    labels = torch.zeros(len(drawn), dtype=torch.long, device=drawn.device)
    for _ in range(count):
        prior.network(drawn[:, -1].unsqueeze(-1), labels, context)


def context_shapes(prior: FramePixelCNN, rows: int) -> list[tuple[int, int, int]]:
    """Return the (n, k, m) of the products of the context and of its guess over `rows` positions."""
    context = prior.context
    width, inputs = context.before.out_channels, context.before.in_channels
    blocks = len(context.blocks) * [(rows, 9 * width, width), (rows, width, width)]
    ends = [(rows, inputs, width), (rows, width, prior.guess.out_channels)]
    return [(rows, context.frames * 9 * inputs, width), *blocks, *ends]


def sampling_products(prior: FramePixelCNN, batch: int, frames: int) -> Callable[[], None]:
    """Return the matrix products of drawing `frames` frames for each of `batch` streams, as a function."""
    device = next(prior.parameters()).device
    of_codes = products(prior.network, prior.grid[1:], batch)
    of_context = [operands(shape, device) for shape in context_shapes(prior, batch * FRAME)]

    def run() -> None:
        for _ in range(frames):
            for a, b, out in of_context:
                torch.mm(a, b, out=out)
            of_codes()

    return run


def training_products(prior: FramePixelCNN, rows: int) -> Callable[[], None]:
    """Return the matrix products of a training step on `rows` positions, forward and backward, as a function."""
    network, device = prior.network, next(prior.parameters()).device
    depth, channels, first = len(network.layers), network.left.in_channels, network.first_reach
    taps = network.layers[0].reach + 1
    hidden, size = network.head.weight.shape[1:]
    shapes = [*context_shapes(prior, rows), (rows, first * (2 * first + 1) * channels, channels)]
    shapes += [(rows, first * channels, channels), (rows, channels, hidden), (rows, hidden, size)]
    shapes += depth * [
        (rows, taps * (2 * taps - 1) * channels, 2 * channels),
        (rows, 2 * channels, 2 * channels),
        (rows, taps * channels, 2 * channels),
        (rows, channels, 2 * channels),
        (rows, prior.context.before.out_channels, 4 * channels),
    ]
    all_of = [operands(shape, device) for shape in shapes]

    def run() -> None:
        for a, b, out in all_of:
            torch.mm(a, b, out=out)
            torch.mm(out, b.t())
            torch.mm(a.t(), out)

    return run


def training_step(prior: FramePixelCNN, optimizer: torch.optim.Optimizer, codes: Tensor, features: Tensor) -> None:
    """Take a step on a batch: forward, loss, backward and Adam."""
    loss = -prior.log_prob(codes, Condition(features=features)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def random_prior(spec: CodeSpec, device: str) -> FramePixelCNN:
    """Return a prior of the benchmark's size in which the frames before matter."""
    prior = FramePixelCNN(spec, **SETTINGS).to(device)
    for weight in (prior.network.local, prior.context.condition):
        assert weight is not None
        torch.nn.init.normal_(weight.weight, std=0.1)
    return prior


def main() -> None:
    """Measure sampling and training, and print the tables."""
    settings = begin(__doc__)
    torch.manual_seed(0)
    device = settings.device
    prior = random_prior(SPEC, device).eval()
    actions: list[Callable[[], object]] = []
    factors: list[float] = []  # from the time of an action to that of a frame
    with torch.inference_mode():
        for streams, count in FORWARDS.items():
            past = torch.randint(512, (streams, GIVEN * FRAME), device=device)
            features = torch.eye(3, device=device)[torch.randint(3, (streams, 16))].mT[..., None, None]
            imagine = partial(sample, prior, streams, Condition(features=features), Sampling(seed=0), past)
            uniforms = torch.rand(streams, prior.length, generator=torch.Generator().manual_seed(0)).to(device)
            actions += [
                partial(full_forwards, prior, imagine(), features, uniforms, count),
                partial(frame_forwards, prior, imagine(), count),
                imagine,
                sampling_products(prior, streams, NEW),
            ]
            factors += 2 * [FRAME / count / streams] + 2 * [1 / NEW / streams]
        found = medians(actions, device, settings.repeats)
    times = [factor * median for factor, median in zip(factors, found, strict=True)]
    headings = ["streams", "full forwards s", "of one frame s", "ours s", "full / ours", "of one frame / ours"]
    head(settings, [*headings, "frames a second", "matmuls s", "ours / matmuls"], "Seconds a frame; forwards scaled")
    for i, streams in enumerate(FORWARDS):
        full, single, ours, limit = times[4 * i : 4 * i + 4]
        ratios = f"{full / ours:.0f} | {single / ours:.0f} | {1 / ours:.1f} | {limit:.4f} | {ours / limit:.2f}"
        print(f"| {streams} | {full:.1f} | {single:.2f} | {ours:.4f} | {ratios} |")

    trained = random_prior(TRAINED, device).train()
    codes = torch.randint(512, (BATCH, *TRAINED.grid), device=device)
    features = torch.eye(3, device=device)[torch.randint(3, (BATCH, 8))].mT[..., None, None]
    optimizer = torch.optim.Adam(trained.parameters())
    step, limit = medians(
        [partial(training_step, trained, optimizer, codes, features), training_products(trained, BATCH * 8 * FRAME)],
        device,
        settings.repeats,
    )
    head(settings, ["training step s", "frames a second", "matmuls s", "ours / matmuls"], "A step on 4 x 8 frames")
    print(f"| {step:.2f} | {BATCH * 8 / step:.1f} | {limit:.2f} | {step / limit:.2f} |")


if __name__ == "__main__":
    main()
