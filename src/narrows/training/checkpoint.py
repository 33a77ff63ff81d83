"""Checkpoints that survive a kill at any moment: written to a temporary folder with a manifest, then renamed.

Accelerate saves the model, optimiser, gradient scaler and random states, and reads them back through safetensors and
PyTorch's weights-only loader. The position in the data follows from the step (see `narrows.data.loader`).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from accelerate import Accelerator

from narrows.atomic import whole_folder
from narrows.checksums import sha256_of
from narrows.errors import NarrowsError

__all__ = ["CheckpointError", "latest", "restore", "save", "verify"]


class CheckpointError(NarrowsError):
    """Error for a checkpoint that is damaged, incomplete or of another model or number of processes."""


def save(accelerator: Accelerator, folder: Path, step: int, keep: int) -> None:
    """Write the checkpoint of `step` into `folder` and remove all but the newest `keep`.

    Every process must call it.
    """
    path = folder / _name(step)
    with whole_folder(path, primary=accelerator.is_main_process) as aside:
        accelerator.wait_for_everyone()
        accelerator.save_state(str(aside))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            files = {file.name: sha256_of(file) for file in sorted(aside.iterdir())}
            manifest = {"step": step, "processes": accelerator.num_processes, "sha256": files}
            (aside / "manifest.json").write_text(json.dumps(manifest, indent=1))
    if accelerator.is_main_process:
        for old in _checkpoints(folder)[:-keep]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def latest(folder: Path) -> Path | None:
    """Return the path of the newest checkpoint in `folder`, or None if there is none."""
    found = _checkpoints(folder)
    return found[-1] if found else None


def restore(accelerator: Accelerator, path: Path) -> int:
    """Load the checkpoint `path` into the objects that `accelerator` has prepared, and return its step.

    Raises:
        CheckpointError: as `verify` does, or if the checkpoint is of another model or optimiser.
    """
    step = verify(accelerator, path)
    try:
        accelerator.load_state(str(path))
    except (KeyError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path} does not fit this model: {error}") from error
    return step


def verify(accelerator: Accelerator, path: Path) -> int:
    """Check the files of the checkpoint `path` against its manifest and return its step.

    Raises:
        CheckpointError: if a file is missing or changed, or if another number of processes wrote the checkpoint.
    """
    remedy = f"remove the folder {path} to resume from the checkpoint before it, or start again"
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        expected, processes, step = manifest["sha256"], int(manifest["processes"]), int(manifest["step"])
        if path.name != _name(step) or not set(expected) >= {file.name for file in path.iterdir()} - {"manifest.json"}:
            raise ValueError("it does not match the folder")
        damaged = [name for name, digest in expected.items() if sha256_of(path / name) != digest]
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{path}/manifest.json cannot be used ({error}): {remedy}") from error
    if damaged:
        raise CheckpointError(f"{path}/{damaged[0]} is truncated, changed or missing: {remedy}")
    if processes != accelerator.num_processes:
        raise CheckpointError(
            f"{path} was written by {processes} processes, but this run has {accelerator.num_processes}: "
            "resume it with the same number of processes"
        )
    return step


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"))
