"""Training steps per second of two recipes, eager and compiled by `torch.compile`, as `training.compile` does.

The recipes are vqvae-images and vqvae-speech on random data: the published sizes on a GPU, the cpu variant on a CPU. A
step is forward, loss, backward and Adam in float32; times are medians of interleaved repeats, without compilation.

    python -m benchmarks.compile [--device cuda] [--threads 2] [--repeats 7]
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.timing import begin, head, medians, seconds
from narrows.data import Batch, Spec
from narrows.modalities.recipes import resolve_training
from narrows.recipe import find_recipe
from narrows.training.compile import compile_task
from narrows.training.loop import Task
from narrows.training.tasks import AutoencoderTask

RECIPES = ["vqvae-images", "vqvae-speech"]
SIDE = 32
HEADINGS = ["recipe", "batch", "eager steps/s", "compiled steps/s", "compiled / eager", "first compiled step s"]


def ready(name: str, variant: str | None, device: str) -> tuple[Task, list[Tensor]]:
    """Return the task of a recipe, and a random batch of its size."""
    built: Any = resolve_training(find_recipe(name).variant(variant), ["--data.source=none"]).build()
    size = built.training.batch_size
    if name == "vqvae-images":
        spec, batch = Spec((3, SIDE, SIDE), "images"), [torch.rand(size, 3, SIDE, SIDE)]
    else:
        window = built.data.window
        spec = Spec((1, window), "sound", ("a", "b"), (-1.0, 1.0), True, built.data.sample_rate)
        batch = [torch.rand(size, 1, window) - 0.5, torch.ones(size, window).bool(), torch.randint(2, (size,))]
    task: Task = AutoencoderTask(built.model(spec), built.estimator, Batch)
    return task.to(device), [part.to(device) for part in batch]


class Step:
    """A training step of a task on one batch."""

    def __init__(self, task: Task, batch: list[Tensor]) -> None:
        self.task, self.batch = task, batch
        self.optimizer = torch.optim.Adam(task.parameters(), 1e-4)

    def __call__(self) -> None:
        """Run the step."""
        self.task(*self.batch)[0].backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def main() -> None:
    """Measure and print the table."""
    settings = begin(__doc__)
    device, variant = settings.device, "cpu" if settings.device == "cpu" else None
    head(settings, HEADINGS)
    for name in RECIPES:
        steps = []
        for _ in range(2):
            torch.manual_seed(0)
            steps.append(Step(*ready(name, variant, device)))
        compile_task(steps[1].task, torch.device(device))
        first = seconds(steps[1], device)
        # The first batches initialise the codebook; later steps are all alike.
        medians(steps, device, 20)
        eager, compiled = medians(steps, device, settings.repeats)
        size = len(steps[0].batch[0])
        print(
            f"| {name} | {size} | {1 / eager:.2f} | {1 / compiled:.2f} | {eager / compiled:.2f} | {first:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
