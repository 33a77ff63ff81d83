"""Saved models: `config.json`, `model.safetensors` and their sums, loaded from a run folder or the hub."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from narrows.atomic import whole_folder
from narrows.checksums import require_intact, sha256_of, summed_files
from narrows.config import ModelRecipe, PriorRecipe, resolve
from narrows.data import Spec
from narrows.errors import NarrowsError
from narrows.migrations import FORMATS, migrate, short_names
from narrows.models import Autoencoder
from narrows.priors import CodeSpec, Prior
from narrows.registry import trusted_code

__all__ = [
    "ModelError",
    "copy_model",
    "fetch",
    "fingerprint",
    "is_on_hub",
    "load",
    "load_without_prior",
    "save_autoencoder",
    "save_prior",
]

CONFIG, WEIGHTS = "config.json", "model.safetensors"
FIRST = "first_stage."
"""Start of the names of a first stage's weights, which are in a folder of their own."""
PARTS = ["model/*", "prior/model/*", "first/**/*"]
"""Files of a run folder that make up the model."""
LOGS = ["recipe.yaml", "*.json", "metrics.jsonl", "prior/recipe.yaml", "prior/metrics.jsonl"]
"""Further files needed to measure a model and write its report."""
CHECKPOINTS = "*checkpoints/*"
"""Files that are never fetched: in the hub's patterns, the star of `*.json` matches folders too."""

Module = TypeVar("Module", bound=nn.Module)


class ModelError(NarrowsError):
    """Error for a saved model that is missing, damaged or inconsistent."""


def load(source: str | Path, device: str | torch.device = "cpu", trust_code: bool = False) -> Autoencoder:
    """Load a trained model, with its learned prior if one was fitted, in evaluation mode.

    Args:
        source: a run folder, or the id (OWNER/NAME) of a run folder on the Hugging Face hub.
        device: device of the weights.
        trust_code: whether the model's files may name classes and functions that are not narrows' own, which can run
            any code on this machine.

    Returns:
        the model: `encode(x)`, `decode(codes)`, `reconstruct(x)`, `sample(n)`, `interpolate(a, b, steps)`.

    Raises:
        ModelError: if there is no model, or one of its files has unexpected contents.
        DamagedError: if one of its files is missing or has changed since it was written.
        CodeError: if one of its files names a class that is not narrows' own, without `trust_code`.
    """
    run = fetch(source)
    # Building the model draws initial weights; the caller's random state must not change.
    with trusted_code(trust_code), torch.random.fork_rng(devices=[]):
        model = _load_autoencoder(run)
        if any((run / "prior" / "model").glob("*")):
            model.prior = _load_prior(run, model)
    return model.to(device).eval()


def load_without_prior(source: str | Path, device: str | torch.device) -> Autoencoder:
    """Load a trained model without its prior, which may be damaged, in order to fit a new prior to it.

    Raises:
        NarrowsError: as `load` does.
    """
    with torch.random.fork_rng(devices=[]):
        return _load_autoencoder(fetch(source)).to(device).eval()


def is_on_hub(source: str | Path) -> bool:
    """Return whether `source` is the id of a model on the hub rather than a local folder."""
    return not Path(source).exists()


def fetch(source: str | Path) -> Path:
    """Return the run folder of a model, downloading it first if `source` is an id on the hub.

    Raises:
        ModelError: if there is no model.
    """
    path = Path(source)
    if (path / "model" / CONFIG).exists():
        return path
    if not is_on_hub(source):
        raise ModelError(
            f"{path} holds no trained model ({path}/model/{CONFIG} is missing): give a run folder, or load a model of "
            "that name on the hub from another working directory"
        )
    try:
        return Path(snapshot_download(str(source), allow_patterns=[*PARTS, *LOGS], ignore_patterns=CHECKPOINTS))
    except (HFValidationError, HfHubHTTPError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"{source} is neither a run folder nor a model on the hub that can be reached: {reason}"
        ) from error


def _load_autoencoder(run: Path) -> Autoencoder:
    origin = str(run / "model" / CONFIG)

    def build(config: dict[str, Any]) -> Autoencoder:
        config = migrate("model", config, origin)
        model = resolve(ModelRecipe, {"model": config["model"]}, origin=origin).build().model(_spec(config))
        if model.stages > 1:
            model.attach_to(load(run / "first"))
        return model

    return _restore(run / "model", build)


def _load_prior(run: Path, model: Autoencoder) -> Prior:
    folder = run / "prior" / "model"
    prior = _restore(folder, partial(_build_prior, str(folder / CONFIG)))
    if not model.takes(prior.spec):
        raise ModelError(f"{run}/prior was fitted to codes of another shape than this model's: fit it again")
    return prior


def save_autoencoder(folder: Path, model: Autoencoder, recipe: str) -> None:
    """Write a model, built by the training recipe with the text `recipe`, into `folder`.

    The prior and the first stage are saved separately, in their own folders.
    """
    spec = asdict(model.spec)
    config = {
        "format": FORMATS["model"],
        "modality": spec.pop("modality"),
        "spec": spec,
        "model": short_names(yaml.safe_load(recipe)["model"]),
    }
    own = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(("prior.", FIRST))}
    _save(folder, own, config)


def save_prior(folder: Path, prior: Prior, recipe: str) -> None:
    """Write a prior, built by the prior recipe with the text `recipe`, into `folder`."""
    config = {
        "format": FORMATS["prior"],
        "codes": asdict(prior.spec),
        "prior": short_names(yaml.safe_load(recipe)["prior"]),
    }
    _save(folder, prior.state_dict(), config)


def copy_model(source: str | Path, folder: Path) -> None:
    """Copy a trained model, with its prior and first stage if it has them, into the new `folder`, ready to load.

    Raises:
        ModelError: if there is no model.
    """
    run = fetch(source)
    with whole_folder(folder) as aside:
        for file in (file for pattern in PARTS for file in run.glob(pattern) if file.is_file()):
            copy = aside / file.relative_to(run)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)


def fingerprint(source: str | Path) -> str:
    """Return the SHA-256 of a model's weights file, which identifies the model of given codes."""
    return sha256_of(fetch(source) / "model" / WEIGHTS)


def _spec(config: dict[str, Any]) -> Spec:
    """Return the data specification in a model's config.json, with JSON's lists converted to tuples."""
    known: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in config["spec"].items()
    }
    return Spec(modality=config["modality"], **known)


def _build_prior(origin: str, config: dict[str, Any]) -> Prior:
    config = migrate("prior", config, origin)
    spec = CodeSpec(**{**config["codes"], "grid": tuple(config["codes"]["grid"])})
    return resolve(PriorRecipe, {"prior": config["prior"]}, origin=origin).build().prior(spec)


def _save(folder: Path, weights: dict[str, Tensor], config: dict[str, Any]) -> None:
    with summed_files(folder) as fresh:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}, fresh / WEIGHTS)
        (fresh / CONFIG).write_text(json.dumps(config, indent=1), encoding="utf-8")


def _restore(folder: Path, build: Callable[[dict[str, Any]], Module]) -> Module:
    require_intact(folder, (CONFIG, WEIGHTS))
    try:
        module = build(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
    except NarrowsError as error:
        raise error if str(folder.parent) in str(error) else ModelError(f"{folder}/{CONFIG}: {error}") from error
    except Exception as error:  # the file may contain anything
        raise ModelError(f"{folder}/{CONFIG} does not describe a valid model: {error!r}") from error
    try:
        first = {name: tensor for name, tensor in module.state_dict().items() if name.startswith(FIRST)}
        module.load_state_dict({**first, **load_file(folder / WEIGHTS)})
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ModelError(f"{folder}/{WEIGHTS} is missing, damaged or of another model: {error}") from error
    return module
