"""Motion: a training step of a VQ-VAE beside its bare networks, and encoding with cached keys and values.

Both use the recipe compare-motion on windows of 64 frames of made-up tables with the 36 columns of a robot, in batches
of 64. The training step of the variant vqvae (batch from the loader, model, losses, backward, Adam) is compared with
encoder, decoder and the same likelihood alone: forward, backward, Adam.

Greedy encoding of 64 windows by the variant daps-ar is compared with full forwards: for each code the encoder and the
transformer are run again on the windows and the codes so far. In the second row the encoder's features are given, for
both. All must give equal codes.

    python -m benchmarks.motion [--threads 2] [--repeats 7]
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.timing import begin, head, medians
from narrows.data import BatchPlan
from narrows.modalities.motion.dataset import MotionData, open_motion
from narrows.modalities.motion.settings import MotionSettings
from narrows.modalities.motion.tables import Table, write_table
from narrows.modalities.recipes import resolve_training
from narrows.models import Autoencoder
from narrows.recipe import find_recipe
from narrows.training.tasks import AutoencoderTask

BATCH, FRAMES, FILES, ANGLES = 64, 1000, 6, 29
ENCODINGS = 5
"""Encodings timed together."""

STEPS = ["model", "ours ms", "bare networks ms", "ours / bare"]
CODES = ["from", "full forwards ms", "ours ms", "full / ours"]


def main() -> None:
    """Measure both and print the tables."""
    settings = begin(__doc__)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        data = made_up(Path(folder))
    head(settings, STEPS, f"Training steps of {BATCH} windows")
    steps(data, "vqvae", settings.repeats)
    head(settings, CODES, f"Greedy codes of {BATCH} windows; equal codes")
    with torch.inference_mode():
        encodings(data, settings.repeats)


def made_up(folder: Path) -> MotionData:
    """Return data like those of a robot: a root that turns and moves, and 29 angles."""
    names = [f"root_{part}" for part in ("x", "y", "z", "qx", "qy", "qz", "qw")]
    generator = np.random.default_rng(0)
    for number in range(FILES):
        quaternions = generator.normal(size=(1, 4)) + generator.normal(size=(FRAMES, 4)).cumsum(0) / 100
        values = generator.normal(size=(FRAMES, 3 + ANGLES)).cumsum(0) / 30
        quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
        columns = np.concatenate([values[:, :3], quaternions, values[:, 3:]], 1)
        write_table(folder / f"{number}.csv", Table((*names, *map(str, range(ANGLES))), columns))
    return open_motion(MotionSettings(str(folder), rate=30, stride=16), quiet=True)


def built(data: MotionData, variant: str) -> AutoencoderTask:
    """Return the model of a variant of compare-motion with its loss."""
    recipe = find_recipe("compare-motion")
    made = resolve_training(recipe.variant(variant), ["--data.source=made-up"], recipe.name).build()
    return AutoencoderTask(made.model(data.spec), made.estimator, data.train.batch)


def step(module: nn.Module, objective: Callable[[], Tensor]) -> Callable[[], None]:
    """Return a training step of `objective`, as a function."""
    optimizer = torch.optim.Adam(module.parameters(), 1e-3)

    def run() -> None:
        optimizer.zero_grad()
        objective().backward()
        optimizer.step()

    return run


def steps(data: MotionData, variant: str, repeats: int) -> None:
    """Measure a training step of a variant and one of its bare networks."""
    task, plain = built(data, variant), built(data, variant).model
    stream = data.train.batches(BatchPlan(BATCH, 0))
    x = data.train.batch(*next(stream)).x

    def bare() -> Tensor:
        return -plain.likelihood(plain.decoder(plain.encoder(x))).log_prob(x).mean() / x[0].numel()

    with stream:
        actions = [step(task, lambda: task(*next(stream))[0]), step(plain, bare)]
        ours, alone = medians(actions, "cpu", 8 * repeats)
    print(f"| {variant} | {1e3 * ours:.1f} | {1e3 * alone:.1f} | {ours / alone:.2f} |")


def encodings(data: MotionData, repeats: int) -> None:
    """Measure the encoding of windows by the cache and by full forwards."""
    model = built(data, "daps-ar").model.eval()
    x = data.train.batch(*next(data.train.batches(BatchPlan(BATCH, 0)))).x
    features = model.encoder(x)
    if not torch.equal(model.encode(x), full_forwards(model, lambda: model.encoder(x))):
        raise SystemExit("the codes differ: the cached logits are not those of a full forward")
    ways = {
        "windows": [lambda: full_forwards(model, lambda: model.encoder(x)), lambda: model.encode(x)],
        "features": [lambda: full_forwards(model, lambda: features), lambda: model.bottleneck(features).codes],
    }
    for name, actions in ways.items():
        full, ours = medians(actions, "cpu", ENCODINGS * repeats)
        print(f"| {name} | {1e3 * full:.1f} | {1e3 * ours:.1f} | {full / ours:.1f} |")


def full_forwards(model: Autoencoder, features: Callable[[], Tensor]) -> Tensor:
    """Return the greedy codes as `model.encode` does, with a full pass over all previous codes for each."""
    posterior = model.bottleneck(features())
    codes = torch.zeros(BATCH, 1, posterior.latents, dtype=torch.long)
    for n in range(posterior.latents):
        writer, position = posterior.writer, n // posterior.codebooks + 1  # codes of a position come together
        logits = writer(codes[..., : position * posterior.codebooks], writer.read(features()), posterior.grid)
        codes[..., n] = logits[:, :, n].argmax(-1)
    return codes.view(BATCH, *posterior.grid, posterior.codebooks)


if __name__ == "__main__":
    main()
