"""Models on disk: `config.json` and `model.safetensors`, written by a run, read by `load()` from there or the hub."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from narrows.atomic import whole_file, whole_folder
from narrows.config import ModelRecipe, PriorRecipe, resolve
from narrows.data import SoundSpec
from narrows.errors import NarrowsError
from narrows.models import Autoencoder, SoundAutoencoder, TwoStage
from narrows.priors import CodeSpec, Prior

__all__ = ["ModelError", "copy_model", "fingerprint", "load", "save_autoencoder", "save_prior"]

CONFIG, WEIGHTS = "config.json", "model.safetensors"
PARTS = ["model/*", "prior/model/*", "first/**/*"]
"""What of a run folder is the model."""

Module = TypeVar("Module", bound=nn.Module)


class ModelError(NarrowsError):
    """A saved model that is missing, damaged or not what it says."""


def load(source: str | Path, device: str | torch.device = "cpu") -> Autoencoder:
    """A trained model, with its learned prior where one was fitted, in evaluation mode.

    Args:
        source: a run folder, or the id (OWNER/NAME) of a run folder on the Hugging Face hub.
        device: where it is put.

    Returns:
        the model: `encode(x)`, `decode(codes)`, `reconstruct(x)`, `sample(n)`, `interpolate(a, b, steps)`.

    Raises:
        ModelError: if there is no model, or a file of it is damaged.
    """
    run = _folder(source)

    def build(config: dict[str, Any]) -> Autoencoder:
        spec = SoundSpec(**config["sound"]) if "sound" in config else tuple(config["shape"])
        model = resolve(ModelRecipe, {"model": config["model"]}, origin=str(run)).build().model(spec)
        model.classes = config["classes"]
        return model

    model = _restore(run / "model", build)
    if isinstance(model, TwoStage):
        model.place_on(load(run / "first"))
    if (run / "prior" / "model" / CONFIG).exists():
        model.prior = _restore(run / "prior" / "model", _build_prior)
        if not model.takes(model.prior.spec):
            raise ModelError(f"{run}/prior was fitted to codes of another shape than this model's: fit it again")
    return model.to(device).eval()


def save_autoencoder(folder: Path, model: Autoencoder, recipe: str) -> None:
    """Write a model, built by the training recipe with the text `recipe`, into `folder`.

    Its prior and its first stage have folders of their own.
    """
    config = {"model": yaml.safe_load(recipe)["model"], "shape": list(model.shape), "classes": model.classes}
    if isinstance(model, SoundAutoencoder):
        config["sound"] = asdict(model.spec)
    others = ("prior.", "first_stage.")
    own = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(others)}
    _save(folder, own, config)


def save_prior(folder: Path, prior: Prior, recipe: str) -> None:
    """Write a prior, built by the prior recipe with the text `recipe`, into `folder`."""
    _save(folder, prior.state_dict(), {"prior": yaml.safe_load(recipe)["prior"], "codes": asdict(prior.spec)})


def copy_model(source: str | Path, folder: Path) -> None:
    """Copy a trained model, with its prior and its first stage where it has them, into the new `folder`, to be loaded.

    Raises:
        ModelError: if there is no model.
    """
    run = _folder(source)
    with whole_folder(folder) as aside:
        for file in (file for pattern in PARTS for file in run.glob(pattern) if file.is_file()):
            copy = aside / file.relative_to(run)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)


def fingerprint(source: str | Path) -> str:
    """What tells this model's codes from another's: the SHA-256 of its weights file."""
    with (_folder(source) / "model" / WEIGHTS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _build_prior(config: dict[str, Any]) -> Prior:
    spec = CodeSpec(**{**config["codes"], "grid": tuple(config["codes"]["grid"])})
    return resolve(PriorRecipe, {"prior": config["prior"]}, origin="prior").build().prior(spec)


def _folder(source: str | Path) -> Path:
    path = Path(source)
    if (path / "model" / CONFIG).exists():
        return path
    if path.exists():
        raise ModelError(f"{path} holds no trained model ({path}/model/{CONFIG} is missing): give a run folder")
    try:
        return Path(snapshot_download(str(source), allow_patterns=PARTS))
    except (HFValidationError, HfHubHTTPError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"{source} is neither a run folder nor a model on the hub that can be reached: {reason}"
        ) from error


def _save(folder: Path, weights: dict[str, Tensor], config: dict[str, Any]) -> None:
    with whole_file(folder / WEIGHTS) as aside:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}, aside)
    with whole_file(folder / CONFIG) as aside:
        aside.write_text(json.dumps(config, indent=1))


def _restore(folder: Path, build: Callable[[dict[str, Any]], Module]) -> Module:
    try:
        module = build(json.loads((folder / CONFIG).read_text()))
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ModelError(f"{folder}/{CONFIG} cannot be read: {error!r}") from error
    try:
        module.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ModelError(f"{folder}/{WEIGHTS} is missing, damaged or of another model: {error}") from error
    return module
