"""Measure a trained model on held-out data."""

from __future__ import annotations

import json

from narrows.atomic import whole_file
from narrows.commands.source import open_run_data
from narrows.evaluation import measure
from narrows.pretrained import load
from narrows.progress import progress
from narrows.report.run import report_run
from narrows.training.run import RunFolder

__all__ = ["evaluate"]


def evaluate(folder: str, source: str | None, split: str, samples: int, limit: int | None) -> dict[str, float]:
    """Measure the run's model on a split of its data, or of `source`; on its own data, also renew its report.

    The importance-weighted bound takes `samples` latents of each example.
    """
    model = load(folder)
    run = RunFolder(folder)
    data = open_run_data(run, source)
    images = getattr(data, split)
    images = images if limit is None else images.first(limit)
    with progress("evaluate", len(images), "images") as meter:
        measured = measure(model, images, samples, advance=meter.advance)
    layers = {f"rate of {group} layer {number}, nats": rate for (group, number), rate in measured.layer_rates.items()}
    if source is None:
        with whole_file(run.evaluation) as aside:
            found = {"split": split, "images": len(images), "samples": samples, "figures": measured.figures}
            aside.write_text(json.dumps(found | {"layer_rates": layers}, indent=1))
        report_run(run, data)
    return measured.figures | layers
