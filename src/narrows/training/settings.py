"""Settings of a training run, and the learning rate as a function of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from narrows.errors import NarrowsError

__all__ = ["TrainingSettings"]


@dataclass
class TrainingSettings:
    """Training settings.

    Args:
        steps: total number of optimiser steps.
        batch_size: examples per step, over all processes.
        learning_rate: Adam's step size.
        betas: Adam's decay rates for the two moments.
        epsilon: added by Adam to the root of the second moment. The loss is per dimension of the data; with many
            dimensions a score-function gradient can become as small as the default.
        warmup: number of steps over which the learning rate rises linearly from 0.
        decay: learning rate after the warm-up: constant ("none"), falling to `final_learning_rate` along a half cosine
            ("cosine"), or set to it after step `decay_at` ("step").
        final_learning_rate: learning rate at the end of the decay.
        decay_at: last step before the fall of the decay "step".
        clip_norm: largest gradient norm; larger gradients are scaled down to it. None for no clipping.
        skip_factor: skip a step if its gradient norm is more than this many times the median of the last 100; None
            skips no step.
        precision: number format of the networks' arithmetic; losses and codebooks stay in float32.
        compile: compile the model and its loss with `torch.compile`. This takes about a minute at the start; results
            differ from uncompiled ones by rounding and by the random numbers drawn.
        seed: seed of the weights, the order of the data and every draw.
        log_every: number of steps between two lines of metrics.
        validate_every: number of steps between two measurements on the validation split.
        validation_examples: number of validation examples to measure.
        gradient_draws: number of gradients to draw on one batch at each measurement, to report the noise of the
            encoder's gradient; 0 turns this off.
        checkpoint_every: number of steps between two checkpoints.
        keep: number of checkpoints to keep, the newest.
    """

    steps: int = 100_000
    batch_size: int = 128
    learning_rate: float = 2e-4
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    warmup: int = 0
    decay: Literal["none", "cosine", "step"] = "none"
    final_learning_rate: float = 0.0
    decay_at: int | None = None
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
            raise NarrowsError(f"training.clip_norm is {self.clip_norm}: it must be above 0, or null for no clipping")
        if self.warmup < 0:
            raise NarrowsError(f"training.warmup is {self.warmup}: it must be at least 0")
        if (self.decay == "step") != (self.decay_at is not None):
            raise NarrowsError(
                f"training.decay_at is {self.decay_at}, but training.decay is {self.decay}: set decay_at, the last "
                "step before the fall, with the decay step, and with no other"
            )
        if not 0 <= self.final_learning_rate <= self.learning_rate:
            raise NarrowsError(
                f"training.final_learning_rate is {self.final_learning_rate}: it must be at least 0 and at most the "
                f"learning rate, {self.learning_rate}"
            )
        if not self.learning_rate > 0:
            raise NarrowsError(f"training.learning_rate is {self.learning_rate}: it must be above 0")

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of step 1, 2, ..., `steps`."""
        if step <= self.warmup:
            return self.learning_rate * step / self.warmup
        if self.decay == "none":
            return self.learning_rate
        if self.decay_at is not None:
            return self.learning_rate if step <= self.decay_at else self.final_learning_rate
        done = (step - 1 - self.warmup) / max(1, self.steps - self.warmup)
        fall = self.learning_rate - self.final_learning_rate
        return self.final_learning_rate + fall * 0.5 * (1 + math.cos(math.pi * done))
