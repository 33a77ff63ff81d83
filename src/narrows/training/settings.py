"""The settings of a training run, and the learning rate as a function of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from narrows.errors import NarrowsError

__all__ = ["TrainingSettings"]


@dataclass
class TrainingSettings:
    """How a model is trained.

    Args:
        steps: optimiser steps in all.
        batch_size: examples in one step, over all processes.
        learning_rate: Adam's step size.
        betas: Adam's decay rates of the two moments.
        epsilon: what Adam adds to the root of the second moment. The loss is per dimension of the data: with many of
            them a score function's gradient may come near the default.
        warmup: steps over which the learning rate rises linearly from 0.
        decay: what the learning rate does after the warm-up: stay, or fall to 0 along a half cosine.
        clip_norm: the gradient is scaled down to this norm where it is larger; None leaves it.
        skip_factor: a step is skipped whose gradient's norm is more than this many times the median of the 100 before;
            None takes every step.
        precision: the number format of the networks' arithmetic; losses and codebooks stay in float32.
        compile: compile the model and its loss by `torch.compile`. It takes a minute or so at the start, and figures
            differ from uncompiled ones by rounding, and by other random numbers.
        seed: of the weights, the order of the data and every draw.
        log_every: steps between two lines of metrics.
        validate_every: steps between two measurements on the validation split.
        validation_examples: how many validation examples a measurement takes.
        gradient_draws: a measurement also tells how noisy the encoder's gradient is, from this many draws of it on one
            batch; 0 leaves that out.
        checkpoint_every: steps between two checkpoints.
        keep: how many checkpoints are kept, the newest.
    """

    steps: int = 100_000
    batch_size: int = 128
    learning_rate: float = 2e-4
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    warmup: int = 0
    decay: Literal["none", "cosine"] = "none"
    clip_norm: float | None = None
    skip_factor: float | None = None
    precision: Literal["no", "bf16", "fp16"] = "no"
    compile: bool = False
    seed: int = 0
    log_every: int = 20
    validate_every: int = 500
    validation_examples: int = 1000
    gradient_draws: int = 0
    checkpoint_every: int = 500
    keep: int = 2

    def __post_init__(self) -> None:
        for name in (
            "steps",
            "batch_size",
            "log_every",
            "validate_every",
            "validation_examples",
            "checkpoint_every",
            "keep",
        ):
            if getattr(self, name) < 1:
                raise NarrowsError(f"training.{name} is {getattr(self, name)}: it must be at least 1")
        if self.gradient_draws == 1 or self.gradient_draws < 0:
            raise NarrowsError(f"training.gradient_draws is {self.gradient_draws}: it must be 0 or at least 2")
        if self.skip_factor is not None and not self.skip_factor > 1:
            raise NarrowsError(f"training.skip_factor is {self.skip_factor}: it must be above 1, such as 5")
        if not 0 <= self.seed < 2**63:
            raise NarrowsError(f"training.seed is {self.seed}: it must be from 0 to 2^63 - 1")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise NarrowsError(f"training.betas are {list(self.betas)}: each must be at least 0 and below 1")
        if not self.epsilon > 0:
            raise NarrowsError(f"training.epsilon is {self.epsilon}: it must be above 0")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise NarrowsError(f"training.clip_norm is {self.clip_norm}: it must be above 0, or unset")
        if self.warmup < 0:
            raise NarrowsError(f"training.warmup is {self.warmup}: it must be at least 0")
        if not self.learning_rate > 0:
            raise NarrowsError(f"training.learning_rate is {self.learning_rate}: it must be above 0")

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of step 1, 2, ..., `steps`."""
        if step <= self.warmup:
            return self.learning_rate * step / self.warmup
        if self.decay == "none":
            return self.learning_rate
        done = (step - 1 - self.warmup) / max(1, self.steps - self.warmup)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
