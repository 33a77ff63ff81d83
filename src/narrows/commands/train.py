"""Train a model, and fit a prior to its codes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from accelerate import Accelerator

from narrows.commands.source import open_run_data, source_override
from narrows.config import PriorRecipe, Recipe, Resolved, TrainingRecipe, find_recipe, resolve
from narrows.data import Images, batches, open_images, to_unit
from narrows.errors import NarrowsError
from narrows.estimators import DistortionTarget, Estimator
from narrows.evaluation import gradient_noise, measure, measure_prior, squared_error
from narrows.models import Autoencoder, TwoStage
from narrows.pretrained import copy_model, load, save_autoencoder, save_prior
from narrows.progress import progress
from narrows.report.run import report_run
from narrows.training import checkpoint
from narrows.training.loop import Batches, make_accelerator
from narrows.training.loop import train as run_loop
from narrows.training.run import RunFolder
from narrows.training.settings import TrainingSettings
from narrows.training.tasks import AutoencoderTask, PriorTask

__all__ = ["fit_prior", "rehearse", "show_recipe", "train"]

ENCODED_AT_ONCE = 256


def show_recipe(name: str, variant: str | None, overrides: Sequence[str]) -> str:
    """The recipe as YAML with all its settings, defaults included."""
    recipe = find_recipe(name)
    kind = PriorRecipe if "prior" in recipe.settings else TrainingRecipe
    return resolve(kind, recipe.variant(variant), overrides, recipe.name).yaml


def train(
    recipe: Recipe, variant: str | None, source: str | None, out: Path, resume: bool, overrides: Sequence[str]
) -> RunFolder:
    """Train the model of a recipe on the data `source`, None for the recipe's own.

    With `resume`, the settings are those of the run in `out` with `overrides` laid over them, and it goes on where its
    newest checkpoint is.
    """
    run = RunFolder(out)
    settings = _settings(run, recipe, variant, resume)
    resolved = resolve(TrainingRecipe, settings, [*source_override(source), *overrides], recipe.name)
    torch.manual_seed(resolved.values.training.seed)
    built = resolved.build()
    accelerator = make_accelerator(built.training)
    with accelerator.main_process_first():
        data = open_images(built.data, quiet=not accelerator.is_main_process)
    validation = data.validation.first(built.training.validation_examples)
    if not len(validation):
        raise NarrowsError(
            "data.validation holds out no image: raise it, since a run is watched and reported by such images"
        )
    model = built.model(data.shape)
    model.classes = data.classes
    on = _first_stage(run, settings.get("on"), built.on, resume)
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
    _begin(run, resolved, resume, accelerator)
    if on is not None and on != run.first and accelerator.is_main_process:
        copy_model(on, run.first)
    run_loop(
        accelerator,
        AutoencoderTask(model, built.estimator),
        batches_from,
        lambda: _validate(model, built.estimator, validation, built.training),
        lambda: save_autoencoder(run.model, model, resolved.yaml),
        built.training,
        run,
        "train",
    )
    if accelerator.is_main_process:
        report_run(run, data)
    accelerator.end_training()
    return run


def _first_stage(run: RunFolder, begun: str | None, on: str | None, resume: bool) -> str | Path | None:
    """Where the first stage is read from: a resumed run has its own copy, and keeps to it.

    Raises:
        NarrowsError: if it was begun on another, or a new run would write over a first stage.
    """
    if resume and on != begun:
        raise NarrowsError(
            f"--on {on}: the run in {run.path} was begun on {begun}, which cannot be changed; train anew"
        )
    if not run.first.exists():
        return on
    if not resume:
        raise NarrowsError(f"{run.first} holds the first stage of another run: train into another folder")
    return run.first


def _place(
    model: Autoencoder, on: str | Path | None, estimator: Estimator, validation: Images, device: torch.device
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
    if isinstance(estimator, DistortionTarget):
        reached = squared_error(first.to(device), validation)
        first.cpu()  # beside the second stage, with which it is moved
        if estimator.gamma >= reached:
            raise NarrowsError(
                f"estimator.gamma is {estimator.gamma:g}, but the first stage in {on} reaches a squared error of "
                f"{reached:.4g} already: the second can only lower it; set a gamma below that"
            )


def rehearse(model: Autoencoder, estimator: Estimator) -> None:
    """Take one example to its loss, where parts that do not suit each other are refused."""
    learns_scale = model.likelihood.features > model.shape[0] or any(True for _ in model.likelihood.parameters())
    if isinstance(estimator, DistortionTarget) and learns_scale:
        raise NarrowsError(
            f"DistortionTarget has no gradient for the scale that {type(model.likelihood).__name__} learns: set "
            "--model.likelihood=GaussianCalibrated, or Bernoulli for binary images"
        )
    task = AutoencoderTask(model, estimator).eval()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        task(torch.zeros(1, *model.shape, dtype=torch.uint8))
    task.train()


def _validate(
    model: Autoencoder, estimator: Estimator, validation: Images, settings: TrainingSettings
) -> dict[str, float]:
    figures = measure(model, validation).figures
    if settings.gradient_draws:
        pixels = torch.from_numpy(validation.pixels[: settings.batch_size].copy())
        x = to_unit(pixels.to(next(model.parameters()).device))
        figures |= gradient_noise(model, estimator, x, settings.gradient_draws)
    return figures


def fit_prior(
    folder: str, recipe_name: str, variant: str | None, source: str | None, resume: bool, overrides: Sequence[str]
) -> RunFolder:
    """Fit the prior of a recipe to the codes of a trained model, into `prior/` of its run folder."""
    run, recipe = RunFolder(folder), find_recipe(recipe_name)
    settings = _settings(run.prior, recipe, variant, resume)
    resolved = resolve(PriorRecipe, settings, overrides, recipe.name)
    torch.manual_seed(resolved.values.training.seed)
    built = resolved.build()
    accelerator = make_accelerator(built.training)
    model = load(folder, accelerator.device)
    prior = built.prior(model.codes)
    with accelerator.main_process_first():
        data = open_run_data(run, source)
    if data.classes != model.classes:
        raise NarrowsError(
            f"--data {source} has the classes {data.classes}, the model {model.classes}: they must be the same"
        )
    train_images = data.train
    if not isinstance(train_images, Images):
        raise NarrowsError(
            "a prior is fitted to the codes of a whole data set, not of a stream: set --data to a fetched one"
        )
    _begin(run.prior, resolved, resume, accelerator)
    quiet = not accelerator.is_main_process
    codes = _encode(model, train_images, quiet)
    held_out = data.validation.first(built.training.validation_examples)
    held_out_codes = _encode(model, held_out, quiet)
    run_loop(
        accelerator,
        PriorTask(prior, model.dimensions),
        lambda step: batches(
            codes,
            train_images.labels,
            batch_size=built.training.batch_size,
            seed=built.training.seed,
            start=step,
            rank=accelerator.process_index,
            processes=accelerator.num_processes,
        ),
        lambda: measure_prior(prior, held_out_codes, held_out.labels, model.dimensions),
        lambda: save_prior(run.prior.model, prior, resolved.yaml),
        built.training,
        run.prior,
        "prior",
    )
    if accelerator.is_main_process:
        report_run(run, data)
    accelerator.end_training()
    return run


def _settings(run: RunFolder, recipe: Recipe, variant: str | None, resume: bool) -> dict[str, Any]:
    """The settings of the run in the folder if it is resumed, else of the recipe, whose run must be a new one."""
    if resume:
        return yaml.safe_load(run.reopen())
    run.require_new()
    return recipe.variant(variant)


def _begin(run: RunFolder, resolved: Resolved[Any], resume: bool, accelerator: Accelerator) -> None:
    newest = checkpoint.latest(run.checkpoints)
    if resume and newest is not None:
        checkpoint.verify(accelerator, newest)
    if accelerator.is_main_process:
        run.write_recipe(resolved.yaml)
    accelerator.wait_for_everyone()


def _encode(model: Autoencoder, images: Images, quiet: bool) -> np.ndarray:
    """The codes of images, in the smallest integer type that holds them."""
    kind = np.min_scalar_type(model.codes.codebook_size - 1)
    device = next(model.parameters()).device
    parts = []
    with progress("encode", len(images), "images", quiet=quiet) as meter:
        for start in range(0, len(images), ENCODED_AT_ONCE):
            pixels = torch.from_numpy(images.pixels[start : start + ENCODED_AT_ONCE].copy())
            parts.append(model.encode(to_unit(pixels.to(device))).cpu().numpy().astype(kind))
            meter.advance(len(pixels))
    return np.concatenate(parts)
