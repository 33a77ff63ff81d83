"""Sampling from the WaveNet: step by step with cached activations, compared with a full forward pass per sample.

30 layers of 64 channels in 3 stacks, a receptive field of 3,070 samples, 256 levels, float32, conditioned on 64
features for every 64 samples and on one of 109 speakers. A full forward pass over the receptive field, in whole hops,
gives one sample of each clip; ours draws 1,024 of them, including the layout of the weights and the choice of levels.
Both must draw the same samples with the same random numbers. The limit is the matrix products of the steps alone: the
same shapes and order, on preallocated buffers. Times are medians of interleaved repeats. Training is a forward and a
backward pass over 6,144 samples of one clip, at 16 kHz.

    python -m benchmarks.wavenet [--device cuda] [--threads 2] [--repeats 7]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.timing import begin, head, medians
from narrows.likelihoods import mu_law_decode
from narrows.networks.wavenet import WaveNet

LEVELS, LOCAL, SPEAKERS, HOP = 256, 64, 109, 64
CLIPS, STEPS, PREFIX = (1, 16), 1024, 128
WINDOW, RATE = 6144, 16_000
HEADINGS = ["clips", "full forward ms", "ours ms", "full / ours", "matmuls ms", "ours / matmuls"]


def features(batch: int, samples: int, device: str) -> tuple[Tensor, Tensor]:
    """Return the conditions of clips: [B, LOCAL, samples / HOP], and their speakers, [B, SPEAKERS]."""
    speakers = torch.randint(SPEAKERS, (batch,), device=device)
    return torch.randn(batch, LOCAL, samples // HOP, device=device), F.one_hot(speakers, SPEAKERS).float()


def choose(logits: Tensor, noise: Tensor) -> Tensor:
    """Return the next samples [B, 1] in [-1, 1], with levels drawn from logits [B, LEVELS] by Gumbel noise."""
    return mu_law_decode((logits + noise).argmax(1, keepdim=True), LEVELS)


def stepped(network: WaveNet, local: Tensor, speakers: Tensor, noises: Tensor) -> Tensor:
    """Draw one sample per clip for each of T noises [T, B, LEVELS], step by step: [B, 1, T]."""
    state, samples = network.begin(len(local), local, speakers), [torch.zeros(len(local), 1, device=local.device)]
    for noise in noises:
        samples.append(choose(state.step(samples[-1]), noise))
    return torch.stack(samples[1:], 2)


def full_forwards(network: WaveNet, local: Tensor, speakers: Tensor, noises: Tensor) -> Tensor:
    """Draw the same samples as `stepped`, with a pass over all previous samples for each."""
    x = torch.zeros(len(local), 1, len(noises), device=local.device)
    for t, noise in enumerate(noises):
        x[..., t] = choose(network(x, local, speakers)[..., t], noise)
    return x


def products(network: WaveNet, batch: int, device: str) -> Callable[[], None]:
    """Return the matrix products of `STEPS` steps, as a function."""
    depth, channels, skip = len(network.spans), network.projects[0].out_channels, network.hidden.in_channels
    by_step = [(1, channels)] + (depth - 1) * [(channels, channels)] + depth * [(channels, 2 * channels)]
    by_step += [(depth * channels, skip), (skip, skip), (skip, LEVELS)]

    def operands(n: int, k: int, m: int) -> tuple[Tensor, Tensor, Tensor]:
        return torch.randn(n, k, device=device), torch.randn(k, m, device=device), torch.empty(n, m, device=device)

    steps = [operands(batch, *shape) for shape in by_step]
    hop = operands(batch, LOCAL, depth * 2 * channels)
    past = torch.randn(depth, batch, channels, device=device)
    taps = torch.randn(depth, channels, 2 * channels, device=device)
    gates = torch.empty(depth, batch, 2 * channels, device=device)

    def run() -> None:
        for step in range(STEPS):
            if step % HOP == 0:
                torch.mm(hop[0], hop[1], out=hop[2])
            torch.bmm(past, taps, out=gates)
            for a, b, out in steps:
                torch.mm(a, b, out=out)

    return run


@torch.inference_mode()
def sampling(network: WaveNet, settings: argparse.Namespace) -> list[list[float]]:
    """Return the seconds of a full forward pass, of `STEPS` steps and of their products, for each number of clips."""
    device, field = settings.device, -(-network.receptive_field // HOP) * HOP
    actions: list[Callable[[], object]] = []
    for batch in CLIPS:
        noises = -torch.empty(STEPS, batch, LEVELS, device=device).exponential_().log()
        prefix = *features(batch, PREFIX, device), noises[:PREFIX]
        if not torch.equal(stepped(network, *prefix), full_forwards(network, *prefix)):
            raise SystemExit("the samples differ: the outputs of a step are not those of a full forward pass")
        x = 2 * torch.rand(batch, 1, field, device=device) - 1
        actions.append(partial(network, x, *features(batch, field, device)))
        actions.append(partial(stepped, network, *features(batch, STEPS, device), noises))
        actions.append(products(network, batch, device))
    found = medians(actions, device, settings.repeats)
    return [found[i : i + 3] for i in range(0, len(found), 3)]


def training(network: WaveNet, settings: argparse.Namespace) -> float:
    """Return the seconds of a forward and a backward pass over a window."""
    local, speakers = features(1, WINDOW, settings.device)
    levels = torch.randint(LEVELS, (1, WINDOW), device=settings.device)
    x = mu_law_decode(levels, LEVELS).unsqueeze(1)

    def step() -> None:
        network.zero_grad()
        F.cross_entropy(network(x, local, speakers), levels).backward()

    return medians([step], settings.device, settings.repeats)[0]


def main() -> None:
    """Measure one clip and sixteen at once, then training, and print the table."""
    settings = begin(__doc__)
    torch.manual_seed(0)
    network = WaveNet(1, LEVELS, local_channels=LOCAL, global_channels=SPEAKERS, hop=HOP).to(settings.device)

    found = sampling(network, settings)
    head(settings, HEADINGS, "Milliseconds a sample and clip; equal samples")
    for batch, (full, ours, limit) in zip(CLIPS, found, strict=True):
        full, ours, limit = (1000 * time / batch for time in (full, ours / STEPS, limit / STEPS))
        print(f"| {batch} | {full:.1f} | {ours:.4f} | {full / ours:.0f} | {limit:.4f} | {ours / limit:.2f} |")
    print(f"Training: {WINDOW / RATE / training(network, settings):.2f} seconds of sound per second")


if __name__ == "__main__":
    main()
