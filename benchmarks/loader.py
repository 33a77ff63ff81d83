"""The loader's speed compared with the training step: batches per second, and how long a step waits for data.

The model is that of `vqvae-images`, cpu variant; waiting is the share of a step spent waiting for data.

    python -m benchmarks.loader [--data SOURCE] [--size 32] [--batch 128] [--steps 40] [--threads 2]
"""

from __future__ import annotations

import argparse
import time

import torch

from narrows.data import BatchPlan
from narrows.modalities.images.images import open_images
from narrows.modalities.images.settings import ImageSettings
from narrows.modalities.recipes import resolve_training
from narrows.recipe import find_recipe
from narrows.training.tasks import AutoencoderTask


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", help="a source of images, as for `narrows train --data`")
    parser.add_argument("--size", type=int, default=32, help="side length of the images")
    parser.add_argument("--batch", type=int, default=128, help="images per step")
    parser.add_argument("--steps", type=int, default=40, help="training steps")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)

    data = open_images(ImageSettings(source=settings.data, size=settings.size))
    plan = BatchPlan(settings.batch)
    with data.train.batches(plan) as loader:
        next(loader)
        began = time.perf_counter()
        for _ in range(10 * settings.steps):
            next(loader)
        alone = (time.perf_counter() - began) / (10 * settings.steps)

    built = resolve_training(find_recipe("vqvae-images").variant("cpu")).build()
    task = AutoencoderTask(built.model(data.spec), built.estimator, data.train.batch)
    optimizer = torch.optim.Adam(task.parameters(), built.training.learning_rate)
    with data.train.batches(plan) as loader:
        for step in range(settings.steps + 1):
            if step == 1:  # the first step warms up
                began, waited = time.perf_counter(), loader.waited
            task(*next(loader))[0].backward()
            optimizer.step()
            optimizer.zero_grad()
        taken = time.perf_counter() - began
        waiting = (loader.waited - waited) / taken

    print("| images | loader alone, images/s | training step ms | loader alone, ms a batch | waiting |")
    print("|" + " ---: |" * 5)
    shape = "x".join(map(str, data.spec.shape))
    print(
        f"| {shape} | {settings.batch / alone:.0f} | {1e3 * taken / settings.steps:.0f} | {1e3 * alone:.2f} "
        f"| {waiting:.2%} |"
    )


if __name__ == "__main__":
    main()
