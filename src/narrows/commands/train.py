"""Train a model, and fit a prior to its codes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from narrows.commands.modality import modality_of
from narrows.commands.resume import require_resumable
from narrows.commands.source import open_run_data, record_data, source_override, what_changed
from narrows.config import Kind, PriorRecipe, Recipe, Resolved, find_recipe, resolve, resolve_training
from narrows.data import batches
from narrows.errors import NarrowsError
from narrows.estimators import DistortionTarget, Estimator
from narrows.evaluation import measure_prior, squared_error
from narrows.modalities.images.images import ImageData, Images
from narrows.modalities.open import open_data
from narrows.modalities.sound.clips import Clips
from narrows.models import Autoencoder, SoundAutoencoder, TwoStage
from narrows.pretrained import copy_model, is_on_hub, load, load_without_prior, save_autoencoder, save_prior
from narrows.training.loop import Batches, make_accelerator
from narrows.training.loop import train as run_loop
from narrows.training.run import RunFolder
from narrows.training.settings import TrainingSettings
from narrows.training.tasks import PriorTask

PRIORS = {"images": "pixelcnn", "sound": "wavenet"}
"""The recipe of the prior that suits the codes of each kind of data."""

__all__ = ["fit_prior", "rehearse", "show_recipe", "train"]


def show_recipe(name: str, variant: str | None, overrides: Sequence[str]) -> str:
    """The recipe as YAML with all its settings, defaults included."""
    recipe = find_recipe(name)
    settings = recipe.variant(variant)
    if "prior" in settings:
        return resolve(PriorRecipe, settings, overrides, recipe.name).yaml
    return resolve_training(settings, overrides, recipe.name).yaml


def train(
    recipe: Recipe, variant: str | None, source: str | None, out: Path, resume: bool, overrides: Sequence[str]
) -> RunFolder:
    """Train the model of a recipe on the data `source`, None for the recipe's own.

    With `resume`, the settings are those of the run in `out` with `overrides` laid over them, and it goes on where its
    newest checkpoint is.
    """
    run = RunFolder(out)
    settings = _settings(run, recipe, variant, resume)
    origin = str(run.recipe) if resume else recipe.name
    resolved = resolve_training(settings, [*source_override(source), *overrides], origin)
    if resume:
        require_resumable(run, resolve_training(settings, origin=str(run.recipe)), resolved)
    built = _built(resolved)
    accelerator = make_accelerator(built.training)
    with accelerator.main_process_first():
        data = open_data(built.data, quiet=not accelerator.is_main_process)
    if resume:
        what_changed(run, data)
    if data.digest["train"]["examples"] == 0:
        raise NarrowsError(f"there is nothing to train on: {data.summary}")
    validation = data.validation.subset(built.training.validation_examples)
    if not len(validation):
        raise NarrowsError(
            f"data.validation holds out nothing (its share is {built.data.validation:g}): raise it, since a run is "
            f"watched and reported by such examples ({data.summary})"
        )
    try:
        model = built.model(data.spec)
    except RuntimeError as error:
        raise NarrowsError(f"these settings make no model of {data.summary}: {error}") from error
    model.classes = data.classes
    modality = modality_of(model)
    on = _first_stage(run, built.on, resume)
    _place(model, on, built.estimator, validation, accelerator.device)

    def batches_from(step: int) -> Batches:
        return data.train.batches(
            built.training.batch_size,
            built.training.seed,
            step,
            accelerator.process_index,
            accelerator.num_processes,
        )

    # What does not fit is refused before anything is written.
    batches_from(0).close()
    rehearse(model, built.estimator)

    def begin() -> None:
        if on is not None and on != run.first:
            copy_model(on, run.first)
        if not resume:
            record_data(run, built.data.source, data)
        run.write_recipe(resolved.yaml)  # the last: with it the folder holds a run

    run_loop(
        accelerator,
        modality.task(model, built.estimator),
        batches_from,
        lambda: modality.validate(model, built.estimator, validation, built.training),
        begin,
        lambda: save_autoencoder(run.model, model, resolved.yaml),
        built.training,
        run,
        "train",
    )
    if accelerator.is_main_process:
        modality.report(run, data, accelerator.device)
    accelerator.end_training()
    return run


def _first_stage(run: RunFolder, on: str | None, resume: bool) -> str | Path | None:
    """Where the first stage is read from: a resumed run has its own copy, and keeps to it.

    Raises:
        NarrowsError: if a new run would write over a first stage.
    """
    if not run.first.exists():
        return on
    if not resume:
        raise NarrowsError(f"{run.first} holds the first stage of another run: train into another folder")
    return run.first


def _place(
    model: Autoencoder, on: str | Path | None, estimator: Estimator, validation: Images | Clips, device: torch.device
) -> None:
    """Place a model of two stages on its first, which must leave it something to do."""
    if not isinstance(model, TwoStage):
        if on is not None:
            raise NarrowsError(f"--on {on}: a {type(model).__name__} has one stage; train a recipe such as hvae-second")
        return
    if on is None:
        raise NarrowsError("this recipe is of the second of two stages: say --on RUN, the run folder of the first")
    first = load(on)
    if first.lacks_prior:
        raise NarrowsError(
            f"the first stage in {on} has codes and no prior of them, so that the pair could never be sampled: fit "
            f"one first with `narrows prior {on}`"
        )
    model.place_on(first)
    if isinstance(estimator, DistortionTarget) and isinstance(validation, Images):
        reached = squared_error(first.to(device), validation)
        first.cpu()  # beside the second stage, with which it is moved
        if estimator.gamma >= reached:
            raise NarrowsError(
                f"estimator.gamma is {estimator.gamma:g}, but the first stage in {on} reaches a squared error of "
                f"{reached:.4g} already: the second can only lower it; set a gamma below that"
            )


def rehearse(model: Autoencoder, estimator: Estimator) -> None:
    """Take one example to its loss, where parts that do not suit each other are refused."""
    if isinstance(estimator, DistortionTarget) and isinstance(model, SoundAutoencoder):
        raise NarrowsError("DistortionTarget holds the squared error of images; of sound, use another estimator")
    learns_scale = model.likelihood.features > model.shape[0] or any(True for _ in model.likelihood.parameters())
    if isinstance(estimator, DistortionTarget) and learns_scale:
        raise NarrowsError(
            f"DistortionTarget has no gradient for the scale that {type(model.likelihood).__name__} learns: set "
            "--model.likelihood=GaussianCalibrated, or Bernoulli for binary images"
        )
    modality = modality_of(model)
    task = modality.task(model, estimator).eval()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        task(*modality.rehearsal(model))
    task.train()


def fit_prior(
    folder: str,
    recipe_name: str | None,
    variant: str | None,
    source: str | None,
    resume: bool,
    overrides: Sequence[str],
) -> RunFolder:
    """Fit the prior of a recipe to the codes of a trained model, into `prior/` of its run folder.

    Without a recipe it is the one that suits the model's kind of data.
    """
    if is_on_hub(folder):
        raise NarrowsError(
            f"{folder} is no run folder here, and a prior is fitted into one: to fit one to a model on the hub, "
            f"download that first, as with `hf download {folder} --local-dir runs/{Path(folder).name}`"
        )
    run = RunFolder(folder)
    recipe = find_recipe(recipe_name or PRIORS[run.reopen().get("modality", "images")])
    settings = _settings(run.prior, recipe, variant, resume)
    resolved = resolve(PriorRecipe, settings, overrides, str(run.prior.recipe) if resume else recipe.name)
    if resume:
        require_resumable(run.prior, resolve(PriorRecipe, settings, origin=str(run.prior.recipe)), resolved)
    built = _built(resolved)
    accelerator = make_accelerator(built.training)
    model = load_without_prior(folder, accelerator.device)
    modality = modality_of(model)
    spec = modality.code_spec(model, built.window)
    prior = built.prior(spec)
    with accelerator.main_process_first():
        data = open_run_data(run, model, source)
    if source is None:
        what_changed(run, data)
    if data.classes != model.classes:
        raise NarrowsError(
            f"the data at {source or run.recipe} have not the classes of the model: "
            f"{', '.join(sorted(set(data.classes) ^ set(model.classes)))} are in one of them alone"
        )
    if prior.classes and getattr(data.train, "labels", None) is None and isinstance(data, ImageData):
        raise NarrowsError(
            f"{source or run.recipe} has no labels, and a prior of this model is told the class of each image: give "
            "the labelled data that the model was trained on"
        )
    quiet = not accelerator.is_main_process
    codes, labels = modality.codes(model, data.train, spec, quiet)
    held_out = data.validation.subset(built.training.validation_examples)
    held_out_codes, held_out_labels = modality.codes(model, held_out, spec, quiet)
    # Of the data behind the codes of an example.
    dimensions = model.dimensions * math.prod(spec.grid) // math.prod(model.grid)

    def batches_from(step: int) -> Batches:
        return batches(
            codes,
            labels,
            batch_size=built.training.batch_size,
            seed=built.training.seed,
            start=step,
            rank=accelerator.process_index,
            processes=accelerator.num_processes,
        )

    batches_from(0).close()
    run_loop(
        accelerator,
        PriorTask(prior, dimensions),
        batches_from,
        lambda: measure_prior(prior, held_out_codes, held_out_labels, dimensions),
        lambda: run.prior.write_recipe(resolved.yaml),
        lambda: save_prior(run.prior.model, prior, resolved.yaml),
        built.training,
        run.prior,
        "prior",
    )
    if accelerator.is_main_process:
        modality.report(run, data, accelerator.device)
    accelerator.end_training()
    return run


def _built(resolved: Resolved[Kind]) -> Kind:
    """The recipe's objects, with weights drawn by its seed, once the settings of the training are found right."""
    with suppress(TypeError):  # of a value of another type, which building them all tells of
        torch.manual_seed(TrainingSettings(**resolved.values.training.as_dict()).seed)
    return resolved.build()


def _settings(run: RunFolder, recipe: Recipe, variant: str | None, resume: bool) -> dict[str, Any]:
    """The settings of the run in the folder if it is resumed, else of the recipe, whose run must be a new one."""
    if resume:
        return run.reopen()
    run.require_new()
    return recipe.variant(variant)
