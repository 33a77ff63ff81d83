"""The run folder and its files.

recipe.yaml     the resolved settings
data.json       the source of the data and a digest of each split
metrics.jsonl   one line of figures every few steps
tensorboard/    the same figures for TensorBoard
checkpoints/    step-00000500/ ..., everything that `--resume` needs
model/          config.json and model.safetensors, everything that `narrows.load()` needs
evaluation.json figures of `narrows evaluate`; some kinds of data write further files
report.html     the report
prior/          run folder of the prior fitted to this model's codes
first/          the first stage of a two-stage model: its model/, and its prior/model/ if it has one
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from narrows.atomic import remove_leftovers, whole_file
from narrows.errors import NarrowsError
from narrows.files import read_json, read_yaml
from narrows.migrations import migrate

__all__ = ["RunFolder"]


class RunFolder:
    """The folder of a run and the paths in it.

    Args:
        path: the folder; created by `write_recipe`.
        outputs: folder of the evaluation and the report; None for `path`.
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
        """Folder of the first stage of a two-stage model."""
        return self.path / "first"

    @property
    def prior(self) -> RunFolder:
        """Run folder of the prior fitted to this run's codes."""
        return RunFolder(self.path / "prior")

    def evaluated(self) -> dict[str, Any] | None:
        """Return what `narrows evaluate` found, as the present version writes it; None if it was not run.

        Raises:
            NarrowsError: if the file is damaged, or written by a newer version.
        """
        if not self.evaluation.exists():
            return None
        try:
            found = migrate("evaluation", read_json(self.evaluation), str(self.evaluation))
            wanted = ("split", "unit", "examples", "samples")
            return {**found, **{name: found[name] for name in wanted}, "figures": dict(found["figures"])}
        except (KeyError, StopIteration, TypeError, ValueError) as error:
            if isinstance(error, NarrowsError):
                raise
            raise NarrowsError(
                f"{self.evaluation} is damaged ({error!r}): delete it and run `narrows evaluate` again"
            ) from error

    def require_new(self) -> None:
        """Check that the folder holds no earlier run, which would be overwritten.

        Raises:
            NarrowsError: if it holds one.
        """
        if self.recipe.exists():
            raise NarrowsError(f"{self.path} already holds a run: continue it with --resume, or use another folder")

    def write_recipe(self, recipe: str) -> None:
        """Write `recipe.yaml`, and remove temporary files of killed processes."""
        remove_leftovers(self.path)
        with whole_file(self.recipe) as aside:
            aside.write_text(recipe)

    def reopen(self) -> dict[str, Any]:
        """Return the settings of an earlier run, from its `recipe.yaml`.

        Raises:
            NarrowsError: if there is none, or it cannot be read.
        """
        if not self.recipe.exists():
            raise NarrowsError(f"{self.path} holds no run to resume: recipe.yaml is missing")
        return read_yaml(self.recipe)

    def log(self, row: dict[str, Any]) -> None:
        """Append one line to `metrics.jsonl`."""
        with self.metrics.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def forget_after(self, step: int) -> None:
        """Remove the metrics of steps after `step`, which a resumed run repeats, and an incomplete last line."""
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
