"""Fitting a prior to the codes of a trained model."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from narrows.commands.resume import require_resumable
from narrows.commands.source import open_run_data, what_changed
from narrows.commands.train import built_with_seed, plan_of, settings_of
from narrows.config import PriorRecipe, resolve
from narrows.data import Batch, Data, Examples, batches
from narrows.errors import NarrowsError
from narrows.evaluation import measure_prior
from narrows.migrations import up_to_date
from narrows.modalities import find_modality
from narrows.models import Autoencoder
from narrows.pretrained import is_on_hub, load_without_prior, save_prior
from narrows.priors import CodeSpec, Prior
from narrows.progress import Progress, hidden
from narrows.recipe import find_recipe
from narrows.report.run import report_run
from narrows.training.loop import Work, make_accelerator
from narrows.training.loop import train as run_loop
from narrows.training.run import RunFolder
from narrows.training.tasks import PriorTask

__all__ = ["Coded", "codes_of", "fit_prior"]

logger = logging.getLogger(__name__)

ENCODED_AT_ONCE = 256
DEFAULT_UPON = "transformer"
"""Default recipe of a prior over the latents of a model upon another."""


class Coded(NamedTuple):
    """The codes of a split, with what they are conditioned on."""

    codes: np.ndarray
    """[N, *grid] or [N, *grid, M], in the smallest integer type."""
    labels: np.ndarray | None
    """The class of each example, int64 [N]; None without classes."""
    features: np.ndarray | None
    """The features of each position of the first axis, float [N, C, T, 1, ...]; None for data without."""


def fit_prior(
    folder: str,
    recipe: str | None = None,
    variant: str | None = None,
    source: str | None = None,
    resume: bool = False,
    overrides: Sequence[str] = (),
    progress: Progress = hidden,
) -> RunFolder:
    """Fit a prior to the codes of a trained model, into `prior/` of its run folder.

    Args:
        folder: the run folder.
        recipe: name of a recipe, or a YAML file; None uses the default of the model's kind of data.
        variant: variant of the recipe.
        source: the data to learn codes of; None for the run's own.
        resume: continue from the newest checkpoint, with its settings and `overrides`.
        overrides: overrides of settings, such as `--training.steps=100`.
        progress: shows the progress.

    Raises:
        NarrowsError: if settings are invalid, before anything is written; or if the training diverges.
    """
    if is_on_hub(folder):
        raise NarrowsError(
            f"{folder} is not a local run folder, which a prior is written to: to fit one to a model on the hub, "
            f"download it first, as with `hf download {folder} --local-dir runs/{Path(folder).name}`"
        )
    with torch.random.fork_rng(devices=[]):
        return _fit(RunFolder(folder), recipe, variant, source, resume, overrides, progress)


def _fit(
    run: RunFolder,
    recipe_name: str | None,
    variant: str | None,
    source: str | None,
    resume: bool,
    overrides: Sequence[str],
    progress: Progress,
) -> RunFolder:
    modality = find_modality(up_to_date(run.reopen())["modality"], str(run.recipe))
    # A first stage is in a folder of its own; the latents upon it are global, on a grid of one dimension.
    recipe = find_recipe(recipe_name or (DEFAULT_UPON if run.first.exists() else modality.default_prior))
    settings = settings_of(run.prior, recipe, variant, resume)
    resolved = resolve(PriorRecipe, settings, overrides, str(run.prior.recipe) if resume else recipe.name)
    if resume:
        require_resumable(run.prior, resolve(PriorRecipe, settings, origin=str(run.prior.recipe)), resolved)
    built = built_with_seed(resolved)
    accelerator = make_accelerator(built.training)
    main = accelerator.is_main_process
    progress = progress if main else hidden
    model = load_without_prior(run.path, accelerator.device)
    spec = _code_spec(model, built.window)
    prior = built.prior(spec)
    with accelerator.main_process_first():
        data = open_run_data(run, model, source, progress=progress)
    if source is None:
        what_changed(run, data)
    _require_same_classes(model, prior, data, source or str(run.recipe))
    codes, labels, features = codes_of(model, data.augmented, spec, progress)
    held_out = data.validation.subset(built.training.validation_examples).numbered(model.classes)
    measured = codes_of(model, held_out, spec, progress)
    # Dimensions of the data that the codes of an example describe.
    dimensions = model.dimensions * math.prod(spec.grid) // math.prod(model.grid)
    plan = plan_of(built.training, accelerator)
    batches(codes, labels, plan, features=features).close()
    work = Work(
        PriorTask(prior, dimensions),
        lambda step: batches(codes, labels, replace(plan, start=step), features=features),
        lambda: measure_prior(prior, measured.codes, measured.labels, dimensions, features=measured.features),
        lambda: run.prior.write_recipe(resolved.yaml),
        lambda: save_prior(run.prior.model, prior, resolved.yaml),
    )
    run_loop(accelerator, work, built.training, run.prior, partial(progress, "prior"))
    if main:
        report_run(run, data, accelerator.device, progress)
    accelerator.end_training()
    return run


def codes_of(model: Autoencoder, examples: Examples, spec: CodeSpec, progress: Progress = hidden) -> Coded:
    """Return the codes of a split, their labels and their features.

    For examples of variable length, these are windows of codes that overlap by half (the last one by more). Examples
    shorter than a window are padded; where batches have no mask, and so no padding, they are left out with a warning.
    Examples of classes that the model does not know are left out.

    Raises:
        NarrowsError: if the examples are streamed, all are shorter than a window, all classes are unknown, or the
            features are missing or not one for each position.
    """
    if not isinstance(examples, Examples):
        raise NarrowsError(
            "a prior is fitted to the codes of a whole data set, not of a stream: set --data to a downloaded one"
        )
    device = next(model.parameters()).device
    found: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    features: list[np.ndarray] = []
    longest = short = 0
    with progress("encode", len(examples), "examples") as meter:
        for stored in examples.whole(ENCODED_AT_ONCE):
            batch = examples.batch(*(part.to(device) for part in stored))
            meter.advance(len(batch.x))
            length = -(-batch.x.shape[2] // model.hop)
            longest = max(longest, length)
            if model.variable:
                if batch.mask is None and length < spec.grid[0]:
                    short += len(batch.x)
                    continue
                if batch.condition is not None and int(batch.condition[0]) < 0:
                    continue
                batch = _at_least(batch, spec.grid[0] * model.hop)
            window = spec.grid[0] if model.variable else None
            windows = list(_windows(_narrow(model.encode(batch.x), spec), window))
            found += windows
            if spec.channels:
                by_position = _features(batch, spec).movedim(2, 1).cpu().numpy()
                features += [part.swapaxes(1, 2) for part in _windows(by_position, window)]
            if batch.condition is not None:
                labels += [batch.condition.cpu().numpy()] * len(windows)
    if spec.grid[0] > longest and model.variable:
        raise NarrowsError(
            f"window is {spec.grid[0]} codes, but the longest example of a split has {longest}: set it to {longest} or "
            "less"
        )
    if short:
        logger.warning(
            "%d of %d examples are shorter than the window of %d codes, and left out",
            short,
            len(examples),
            spec.grid[0],
        )
    if not found:
        raise NarrowsError("no example has a class that the model was trained on, so there are no codes to learn")
    joined = (np.concatenate(parts) if parts else None for parts in (labels, features))
    return Coded(np.concatenate(found), *joined)


def _code_spec(model: Autoencoder, window: int | None) -> CodeSpec:
    """Return the specification of the codes that a prior is fitted to; `window` is a setting of its recipe."""
    if window is None:
        return model.codes
    if not model.variable:
        raise NarrowsError(f"window is {window}: a prior models all codes of an example of a fixed size; leave it out")
    if window < 1:
        raise NarrowsError(f"window is {window}: it must be at least 1 code")
    return model.codes_of((window, *model.grid[1:]))


def _require_same_classes(model: Autoencoder, prior: Prior, data: Data, source: str) -> None:
    if data.classes != model.classes:
        raise NarrowsError(
            f"the classes of the data at {source} and of the model differ: "
            f"only one of them has {', '.join(sorted(set(data.classes) ^ set(model.classes)))}"
        )
    if prior.classes and isinstance(data.train, Examples) and data.train.labels is None:
        raise NarrowsError(
            f"{source} has no labels, but a prior of this model is conditioned on classes: use the labelled data that "
            "the model was trained on"
        )


def _at_least(batch: Batch, length: int) -> Batch:
    padding = [0, 0] * (batch.x.ndim - 3) + [0, max(0, length - batch.x.shape[2])]
    features = None if batch.features is None else F.pad(batch.features, padding)
    return batch._replace(x=F.pad(batch.x, padding), features=features)


def _features(batch: Batch, spec: CodeSpec) -> Tensor:
    """Return the features of a batch, [B, C, T, 1, ...], after checking their shape."""
    wanted = [len(batch.x), spec.channels, batch.x.shape[2], *[1] * (batch.x.ndim - 3)]
    if batch.features is None or list(batch.features.shape) != wanted:
        found = "none" if batch.features is None else list(batch.features.shape)
        raise NarrowsError(f"the features of a batch must have the shape {wanted}, one for each position, got {found}")
    return batch.features


def _narrow(codes: Tensor, spec: CodeSpec) -> np.ndarray:
    return codes.cpu().numpy().astype(np.min_scalar_type(spec.codebook_size - 1))


def _windows(codes: np.ndarray, length: int | None) -> Iterator[np.ndarray]:
    """Yield windows [B, length, ...] of codes [B, N, ...]; None yields all codes."""
    if length is None:
        yield codes
        return
    for start in range(0, codes.shape[1] - length, max(1, length // 2)):
        yield codes[:, start : start + length]
    yield codes[:, codes.shape[1] - length :]
