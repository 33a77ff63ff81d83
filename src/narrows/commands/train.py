"""Training the model of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from narrows.commands.resume import require_resumable
from narrows.commands.source import changes_since, open_data, record_data, source_override, what_changed
from narrows.config import Kind, PriorRecipe, Resolved, TrainingRecipe, resolve
from narrows.data import BatchPlan, Data, Examples
from narrows.errors import NarrowsError
from narrows.estimators import DistortionTarget, Estimator
from narrows.evaluation import gradient_noise, measure, squared_error
from narrows.modalities import find_modality
from narrows.modalities.recipes import resolve_training
from narrows.modality import Modality
from narrows.models import Autoencoder
from narrows.pretrained import copy_model, fetch, load, save_autoencoder
from narrows.progress import Progress, hidden
from narrows.recipe import Recipe, find_recipe
from narrows.report.run import report_run
from narrows.training.loop import Work, make_accelerator
from narrows.training.loop import train as run_loop
from narrows.training.run import RunFolder
from narrows.training.settings import TrainingSettings
from narrows.training.tasks import AutoencoderTask

__all__ = ["built_with_seed", "plan_of", "rehearse", "settings_of", "show_recipe", "train"]


def show_recipe(name: str, variant: str | None = None, overrides: Sequence[str] = ()) -> str:
    """Return a recipe as YAML with all its settings, including defaults."""
    recipe = find_recipe(name)
    settings = recipe.variant(variant)
    if "prior" in settings:
        return resolve(PriorRecipe, settings, overrides, recipe.name).yaml
    return resolve_training(settings, overrides, recipe.name).yaml


def train(
    recipe: Recipe,
    out: Path,
    variant: str | None = None,
    source: str | None = None,
    resume: bool = False,
    overrides: Sequence[str] = (),
    progress: Progress = hidden,
) -> RunFolder:
    """Train the model of a recipe into the run folder `out`.

    Args:
        recipe: the recipe.
        out: the run folder; a new one, or with `resume` the one to continue.
        variant: variant of the recipe.
        source: the data; None for the recipe's own.
        resume: continue from the newest checkpoint in `out`, with its settings and `overrides`.
        overrides: overrides of settings, such as `--training.steps=100`.
        progress: shows the progress.

    Raises:
        NarrowsError: if settings are invalid, before anything is written; or if the training diverges.
    """
    with torch.random.fork_rng(devices=[]):
        return _train(recipe, RunFolder(out), variant, source, resume, overrides, progress)


def _train(
    recipe: Recipe,
    run: RunFolder,
    variant: str | None,
    source: str | None,
    resume: bool,
    overrides: Sequence[str],
    progress: Progress,
) -> RunFolder:
    settings = settings_of(run, recipe, variant, resume)
    origin = str(run.recipe) if resume else recipe.name
    resolved = resolve_training(settings, [*source_override(source), *overrides], origin)
    if resume:
        require_resumable(run, resolve_training(settings, origin=str(run.recipe)), resolved)
    built = built_with_seed(resolved)
    accelerator = make_accelerator(built.training)
    main = accelerator.is_main_process
    progress = progress if main else hidden
    modality = find_modality(built.modality)
    with accelerator.main_process_first():
        data = open_data(modality, built.data, progress, quiet=not main)
    if resume:
        what_changed(run, data)
    validation = _require_examples(built, data)
    model = _model(built, data)
    on = _first_stage(run, built.on, resume)
    if on is not None and model.shares_data:
        _require_splits_of(on, data)
    _place(model, on, built.estimator, validation, accelerator.device)
    validation = validation.numbered(model.classes)
    task = AutoencoderTask(model, built.estimator, data.train.batch)

    # Invalid settings must be refused before anything is written.
    plan, training = plan_of(built.training, accelerator), data.augmented
    with training.batches(plan) as first:
        rehearse(task, [part[:1] for part in next(first)])

    def begin() -> None:
        if on is not None and on != run.first:
            copy_model(on, run.first)
        if not resume:
            record_data(run, built.data.source, data)
        run.write_recipe(resolved.yaml)  # last, because a folder with a recipe is a run

    work = Work(
        task,
        lambda step: training.batches(replace(plan, start=step)),
        partial(_validate, task, modality, validation, built.training),
        begin,
        lambda: save_autoencoder(run.model, model, resolved.yaml),
    )
    run_loop(accelerator, work, built.training, run, partial(progress, "train"))
    if main:
        report_run(run, data, accelerator.device, progress)
    accelerator.end_training()
    return run


def rehearse(task: AutoencoderTask, stored: Sequence[torch.Tensor]) -> None:
    """Run one example through the loss so that incompatible parts fail before anything is written.

    Raises:
        NarrowsError: if parts are incompatible, or the likelihood cannot describe the data.
    """
    model, estimator = task.model, task.estimator
    if isinstance(estimator, DistortionTarget):
        if model.autoregressive:
            raise NarrowsError(
                f"DistortionTarget needs the squared error of a reconstruction, and a {type(model.decoder).__name__} "
                "has none: use another estimator, or a decoder that describes all positions at once"
            )
        if model.likelihood.learns_scale:
            raise NarrowsError(
                f"DistortionTarget has no gradient for the scale that {type(model.likelihood).__name__} learns: set "
                "--model.likelihood=GaussianCalibrated, or Bernoulli for binary data"
            )
    modes = [(module, module.training) for module in task.modules()]
    task.eval()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        task.model.likelihood.check(task.batch(*stored).x)
        task(*stored)
    for module, training in modes:
        module.training = training


def plan_of(settings: TrainingSettings, accelerator: Accelerator) -> BatchPlan:
    """Return the plan of the training batches for this process."""
    return BatchPlan(
        settings.batch_size, settings.seed, rank=accelerator.process_index, processes=accelerator.num_processes
    )


def built_with_seed(resolved: Resolved[Kind]) -> Kind:
    """Return the recipe's objects, with weights drawn by its seed, after checking the training settings."""
    with suppress(TypeError):  # a value of the wrong type is reported when all objects are built
        torch.manual_seed(TrainingSettings(**resolved.values.training.as_dict()).seed)
    return resolved.build()


def settings_of(run: RunFolder, recipe: Recipe, variant: str | None, resume: bool) -> dict[str, Any]:
    """Return the settings of the run in the folder if it is resumed, otherwise those of the recipe, for a new run."""
    if resume:
        return run.reopen()
    run.require_new()
    return recipe.variant(variant)


def _require_examples(built: TrainingRecipe, data: Data) -> Examples:
    """Return the validation examples used during training."""
    if data.digest["train"]["examples"] == 0:
        raise NarrowsError(f"there is nothing to train on: {data.summary}")
    validation = data.validation.subset(built.training.validation_examples)
    if not len(validation):
        raise NarrowsError(
            f"data.validation holds out nothing (its share is {built.data.validation:g}): increase it, because "
            f"training is validated and reported on these examples ({data.summary})"
        )
    return validation


def _model(built: TrainingRecipe, data: Data) -> Autoencoder:
    try:
        return built.model(data.spec)
    except RuntimeError as error:
        raise NarrowsError(f"the settings do not fit {data.summary}: {error}") from error


def _validate(
    task: AutoencoderTask, modality: Modality, validation: Examples, settings: TrainingSettings
) -> dict[str, float]:
    """Return the validation figures during training."""
    figures_of = partial(modality.figures, spec=task.model.spec) if modality.has_figures else None
    figures = measure(task.model, validation, figures=figures_of).figures
    if settings.gradient_draws:
        device = next(task.model.parameters()).device
        with validation.batches(BatchPlan(min(settings.batch_size, len(validation)))) as batches:
            stored = tuple(part.to(device) for part in next(batches))
        figures |= gradient_noise(task, stored, settings.gradient_draws)
    return figures


def _first_stage(run: RunFolder, on: str | None, resume: bool) -> str | Path | None:
    """Return where to read the first stage from; a resumed run uses its own copy.

    Raises:
        NarrowsError: if a new run would overwrite a first stage.
    """
    if not run.first.exists():
        return on
    if not resume:
        raise NarrowsError(f"{run.first} holds the first stage of another run: train into another folder")
    return run.first


def _require_splits_of(on: str | Path, data: Data) -> None:
    """Check that a first stage was trained on the same splits of the same data, if its folder says on which.

    Raises:
        NarrowsError: if it was trained on others, among them perhaps examples that are held out here.
    """
    first = RunFolder(fetch(on))
    changed = changes_since(first, data) if first.data.exists() else None
    if changed is not None:
        raise NarrowsError(
            f"--on {on}: the first stage was trained on other data, perhaps on examples that are held out here "
            f"({changed}): train on its data, with the same data settings"
        )


def _place(
    model: Autoencoder, on: str | Path | None, estimator: Estimator, validation: Examples, device: torch.device
) -> None:
    """Set the first stage of a model of two, after checking that they fit and that the first leaves room to improve."""
    if model.stages == 1:
        if on is not None:
            raise NarrowsError(
                f"--on {on}: a {type(model).__name__} has one stage; train a recipe such as hvae-second or vqvae-global"
            )
        return
    if on is None:
        raise NarrowsError("this recipe trains the second of two stages: add --on RUN, the run folder of the first")
    first = load(on)
    try:
        model.attach_to(first)
    except NarrowsError as error:
        raise NarrowsError(f"--on {on}: {error}") from error
    if model.lacks_prior:
        raise NarrowsError(
            f"the first stage in {on} has codes but no prior for them, so the pair could not be sampled: fit one first "
            f"with `narrows prior {on}`"
        )
    if isinstance(estimator, DistortionTarget) and not model.autoregressive:
        reached = squared_error(first.to(device), validation)
        first.cpu()  # next to the second stage, with which it is moved later
        if estimator.gamma >= reached:
            raise NarrowsError(
                f"estimator.gamma is {estimator.gamma:g}, but the first stage in {on} already has a squared error of "
                f"{reached:.4g}, which the second can only lower: set gamma below that"
            )
