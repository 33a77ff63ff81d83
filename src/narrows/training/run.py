"""The run folder: everything a training run leaves behind, and where.

recipe.yaml     the settings as resolved
data.json       what it was trained on: the source, and a digest of each split
metrics.jsonl   one line of figures every few steps
tensorboard/    the same for TensorBoard
checkpoints/    step-00000500/ ...: all that `--resume` needs
model/          config.json and model.safetensors: all that `narrows.load()` needs
evaluation.json what `narrows evaluate` found; a kind of data may leave further files of its own
report.html     the page to look at
prior/          the run folder of the prior fitted to this model's codes
first/          of a model of two stages, the first: its model/, and its prior/model/ if it has one
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from narrows.atomic import remove_leftovers, whole_file
from narrows.errors import NarrowsError
from narrows.files import read_yaml

__all__ = ["RunFolder"]


class RunFolder:
    """A run's folder on disk.

    Args:
        path: the folder; made by `write_recipe`.
        outputs: the folder of what is made of the trained model, such as its report; the same, where it is None.
    """

    def __init__(self, path: str | Path, outputs: Path | None = None) -> None:
        self.path = Path(path)
        self.outputs = self.path if outputs is None else outputs
        self.recipe = self.path / "recipe.yaml"
        self.data = self.path / "data.json"
        self.metrics = self.path / "metrics.jsonl"
        self.tensorboard = self.path / "tensorboard"
        self.checkpoints = self.path / "checkpoints"
        self.model = self.path / "model"
        self.evaluation = self.outputs / "evaluation.json"
        self.report = self.outputs / "report.html"

    @property
    def first(self) -> Path:
        """Where a model of two stages keeps its first."""
        return self.path / "first"

    @property
    def prior(self) -> RunFolder:
        """The run folder of the prior fitted to this run's codes."""
        return RunFolder(self.path / "prior")

    def require_new(self) -> None:
        """Refuse to write over an earlier run.

        Raises:
            NarrowsError: if the folder holds one.
        """
        if self.recipe.exists():
            raise NarrowsError(f"{self.path} holds a run already: continue it with --resume, or use another folder")

    def write_recipe(self, recipe: str) -> None:
        """Write `recipe.yaml`, and remove what a killed process left behind."""
        remove_leftovers(self.path)
        with whole_file(self.recipe) as aside:
            aside.write_text(recipe)

    def reopen(self) -> dict[str, Any]:
        """Return the settings of an earlier run, from its `recipe.yaml`.

        Raises:
            NarrowsError: if there is none, or it cannot be read.
        """
        if not self.recipe.exists():
            raise NarrowsError(f"{self.path} holds no run (no recipe.yaml): nothing to resume")
        return read_yaml(self.recipe)

    def log(self, row: dict[str, Any]) -> None:
        """Append one line to `metrics.jsonl`."""
        with self.metrics.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def forget_after(self, step: int) -> None:
        """Drop the metrics of steps after `step`, which a resumed run takes again, and a torn last line."""
        if not self.metrics.exists():
            return
        kept = []
        for line in self.metrics.read_bytes().splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                break
            if not isinstance(row, dict) or not isinstance(row.get("step"), int):
                break
            if row["step"] <= step:
                kept.append(line + b"\n")
        with whole_file(self.metrics) as aside:
            aside.write_bytes(b"".join(kept))
