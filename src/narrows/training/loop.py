"""The training loop, with logging, validation and checkpoints.

It trains any `Task`, a module that maps a batch to a loss and figures. Batch t, the learning rate of step t and the
restored state depend only on the recipe and t, so a resumed run gives the same results as an uninterrupted one.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from narrows.errors import NarrowsError
from narrows.progress import Meter
from narrows.training import checkpoint
from narrows.training.compile import compile_task
from narrows.training.memory import peak_memory_mib
from narrows.training.run import RunFolder
from narrows.training.settings import TrainingSettings
from narrows.training.skip import GradientSkip

__all__ = ["Batches", "DivergedError", "Task", "Work", "make_accelerator", "train"]


SKIPPED_INFINITE = 20
"""Largest number of steps in a row that may be skipped because the loss is not finite."""


class DivergedError(NarrowsError):
    """Error for a run whose loss or weights are no longer finite."""


class Task(nn.Module, ABC):
    """Base class of training tasks: a model and the loss to minimise."""

    @abstractmethod
    def forward(self, *batch: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch, a scalar, and figures to log, scalars by name."""


class Batches(Protocol):
    """An endless stream of batches.

    Attributes:
        waited: seconds spent waiting for batches so far.
    """

    waited: float

    def __next__(self) -> tuple[Tensor, ...]: ...

    def close(self) -> None:
        """Stop the workers that make the batches."""


def make_accelerator(settings: TrainingSettings) -> Accelerator:
    """Return the accelerator of a run: its device, precision, and processes under `torchrun` or `accelerate launch`.

    Raises:
        NarrowsError: if the batch size is not a multiple of the number of processes.
    """
    # The state outlives an accelerator and would force the first run's precision on the next run in this process.
    AcceleratorState._reset_state()
    # Accelerate forms a group of CPU processes only if cpu is set.
    cpu = not torch.accelerator.is_available()
    accelerator = Accelerator(cpu=cpu, mixed_precision=settings.precision)
    if settings.batch_size % accelerator.num_processes:
        raise NarrowsError(
            f"training.batch_size is {settings.batch_size}: it must be a multiple of the {accelerator.num_processes} "
            "processes"
        )
    return accelerator


@dataclass(frozen=True)
class Work:
    """The parts of a training run.

    Args:
        task: the model and its loss; trained in place.
        batches: makes the stream of this process's batches after a given step.
        validate: returns figures of the task on held-out data, without changing the random state of training.
        begin: writes the settings and the description of the data into the run folder. It is called after all checks,
            so that a run that cannot be resumed stays unchanged.
        export: saves the model for use; called after every checkpoint.
    """

    task: Task
    batches: Callable[[int], Batches]
    validate: Callable[[], dict[str, float]]
    begin: Callable[[], None]
    export: Callable[[], None]


def train(
    accelerator: Accelerator,
    work: Work,
    settings: TrainingSettings,
    run: RunFolder,
    progress: Callable[..., AbstractContextManager[Meter]],
) -> None:
    """Train up to `settings.steps`, from the newest checkpoint of `run` if there is one.

    Args:
        accelerator: made by `make_accelerator`.
        work: the task, its data, and the functions that validate and save it.
        settings: training settings.
        run: folder of the metrics and checkpoints.
        progress: shows the progress; called with the number of steps and, as `done`, the number already done.

    Raises:
        DivergedError: if the loss or a weight is no longer finite. Checkpoints never hold such weights.
        CheckpointError: if the newest checkpoint is damaged or does not fit this run.
        NarrowsError: if `settings.compile` is set and `torch.compile` does not work on the device.
    """
    task = work.task
    skip = None if settings.skip_factor is None else GradientSkip(settings.skip_factor)
    task.add_module("skip", skip)
    optimizer = torch.optim.Adam(task.parameters(), settings.learning_rate, settings.betas, settings.epsilon)
    if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
        task = cast(Task, nn.SyncBatchNorm.convert_sync_batchnorm(task))
    stepper, optimizer = accelerator.prepare(task, optimizer)
    if settings.compile:
        compile_task(task, accelerator.device)
    torch.manual_seed(settings.seed + accelerator.process_index)
    newest = checkpoint.latest(run.checkpoints)
    first = 0 if newest is None else checkpoint.restore(accelerator, newest)
    if accelerator.is_main_process:
        work.begin()
        run.forget_after(first)
    accelerator.wait_for_everyone()
    log = _Log(run, accelerator.is_main_process)
    healthy = torch.ones((), dtype=torch.bool, device=accelerator.device)
    infinite = torch.zeros((), dtype=torch.long, device=accelerator.device)
    largest = torch.zeros((), device=accelerator.device)
    stream = work.batches(first)
    began, waited_before, stepped_before, skipped = time.monotonic(), 0.0, first, 0
    try:
        with progress(settings.steps, done=first) as meter:
            for step in range(first + 1, settings.steps + 1):
                for group in optimizer.param_groups:
                    group["lr"] = settings.learning_rate_at(step)
                loss, figures = stepper(*(part.to(accelerator.device, non_blocking=True) for part in next(stream)))
                accelerator.backward(loss)
                logging = step % settings.log_every == 0 or step == settings.steps
                taken = True
                if settings.clip_norm is not None or skip is not None or logging:
                    norm = accelerator.clip_grad_norm_(task.parameters(), settings.clip_norm or math.inf)
                    figures["gradient_norm"] = torch.as_tensor(norm, device=accelerator.device)
                    figures["gradient_norm_max"] = largest = torch.maximum(largest, figures["gradient_norm"])
                    taken = skip is None or skip(figures["gradient_norm"])
                if taken:
                    optimizer.step()
                elif accelerator.scaler is not None:
                    accelerator.scaler.update()  # otherwise it would still count this step's gradients as unscaled
                infinite = torch.where(loss.detach().isfinite(), 0, infinite + 1)
                healthy &= infinite <= (0 if taken else SKIPPED_INFINITE)
                optimizer.zero_grad()
                skipped += not taken
                if logging:
                    row = _average(accelerator, {"loss": loss.detach(), **figures})
                    _require_health(healthy, step, run.checkpoints)
                    now = time.monotonic()
                    row["learning_rate"] = settings.learning_rate_at(step)
                    row["steps_per_second"] = (step - stepped_before) / (now - began)
                    row["waiting"] = (stream.waited - waited_before) / (now - began)
                    if skip is not None:
                        row["skipped"] = skipped / (step - stepped_before)
                    row["peak_memory_mib"] = peak_memory_mib(accelerator.device)
                    log.write(step, "train", row)
                    meter.note = f"loss {row['loss']:.4g}"
                if step % settings.validate_every == 0 or step == settings.steps:
                    log.write(step, "validation", work.validate())
                if step % settings.checkpoint_every == 0 or step == settings.steps:
                    _require_health(healthy & _finite(task), step, run.checkpoints)
                    checkpoint.save(accelerator, run.checkpoints, step, settings.keep)
                    if accelerator.is_main_process:
                        work.export()
                if logging:
                    began, waited_before, stepped_before, skipped = time.monotonic(), stream.waited, step, 0
                    largest = torch.zeros_like(largest)
                meter.advance()
    finally:
        stream.close()
        log.close()


class _Log:
    """The logs, metrics.jsonl and TensorBoard, which only the main process writes."""

    def __init__(self, run: RunFolder, main: bool) -> None:
        self.run = run
        self.board = SummaryWriter(str(run.tensorboard)) if main else None

    def write(self, step: int, split: str, figures: dict[str, float]) -> None:
        if self.board is None:
            return
        self.run.log({"step": step, "split": split, **figures})
        for name, value in figures.items():
            self.board.add_scalar(f"{split}/{name}", value, step)

    def close(self) -> None:
        if self.board is not None:
            self.board.close()


def _average(accelerator: Accelerator, figures: dict[str, Any]) -> dict[str, float]:
    values = torch.stack([value.float() for value in figures.values()])
    return dict(zip(figures, accelerator.reduce(values, "mean").tolist(), strict=True))


def _finite(task: Task) -> Tensor:
    state = [value for value in task.state_dict().values() if value.is_floating_point()]
    return torch.stack([value.isfinite().all() for value in state]).all()


def _require_health(healthy: Tensor, step: int, checkpoints: Path) -> None:
    if not healthy.item():
        last = checkpoint.latest(checkpoints)
        kept = f"the last good checkpoint is {last}" if last else "no checkpoint was written yet"
        raise DivergedError(
            f"the loss or the weights became NaN or infinite by step {step}; {kept}. Lower training.learning_rate, set "
            "training.clip_norm, use training.precision=no, or check the data for NaN"
        )
