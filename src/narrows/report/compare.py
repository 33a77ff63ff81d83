"""The report of a comparison and its tables, with the mean and spread over the seeds for every method."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from narrows.atomic import whole_file
from narrows.data import Data
from narrows.decoding import decode_drawn
from narrows.evaluation.compare import ENDS, Outcome, Spread, Trial, spreads, sweep_end
from narrows.files import distinct_stems, read_text
from narrows.modalities import find_modality
from narrows.pretrained import load
from narrows.progress import Progress
from narrows.recipe import Recipe
from narrows.report.methods import method_curves, method_dots
from narrows.report.metrics import read_metrics
from narrows.report.page import Cell, Figure, Page, Section, Settings, Table, write_page
from narrows.report.sections import evaluated_on
from narrows.report.svg import standalone
from narrows.report.tables import write_csv
from narrows.training.run import RunFolder

__all__ = ["report_comparison"]

QUALITY = {
    "bits_per_dim": "bits/dim",
    "importance_weighted_bits_per_dim": "importance-weighted, bits/dim",
    "rate_bits_per_dim": "rate, bits/dim",
    "distortion_bits_per_dim": "distortion, bits/dim",
    "log_likelihood": "log p(x|z), nats",
    "psnr": "PSNR, dB",
    "perplexity": "perplexity, codes",
    "usage": "codes in use, share",
    "frechet_reconstructions": "Fréchet distance of reconstructions",
    "frechet_samples": "Fréchet distance of samples",
}
COST = {
    "gradient_noise": "gradient noise, share",
    "gradient_variance": "gradient variance",
    "steps_per_second": "steps/s",
    "peak_memory_mib": "peak memory, MiB",
}
CURVES = {"bits_per_dim": "Bits per dimension", "distortion_bits_per_dim": "Distortion -log2 p(x|z), bits/dim"}
SHOWN = {False: 10, True: 4}
"""Number of examples to reconstruct, by whether any decoder is autoregressive, and so slower."""


def report_comparison(
    recipe: Recipe,
    methods: Sequence[str],
    outcomes: Sequence[Outcome],
    rates: Mapping[str, float],
    criterion: str,
    data: Data,
    out: Path,
    progress: Progress,
) -> Path:
    """Write `report.html` of the trials in `out`, with its tables as CSV and its drawings as SVG and PNG.

    Args:
        recipe: the recipe that the methods share.
        methods: names of the methods, in the order shown.
        outcomes: results of all trials.
        rates: chosen learning rate of each method, if one was found.
        criterion: the validation figure that the rates were chosen by.
        data: the data of the comparison.
        out: folder of the comparison.
        progress: shows the progress.

    Returns:
        the path of the report.
    """
    sweep = [outcome for outcome in outcomes if outcome.trial.seed == 0]
    ends = {method: sweep_end(sweep, method, rate) for method, rate in rates.items()}
    runs = {
        method: [
            RunFolder(out / "trials" / trial.name)
            for trial, figures in outcomes
            if trial.method == method and trial.learning_rate == rates.get(method) and figures is not None
        ]
        for method in methods
    }
    found = {method: own for method, own in runs.items() if own}
    figures = {method: [_figures(run) for run in own] for method, own in found.items()}
    summary = {method: spreads(seeds) for method, seeds in figures.items()}
    seeds = {method: len(own) for method, own in runs.items()}
    write_csv(out / "summary.csv", _summary_rows(summary, rates, ends, seeds))
    write_csv(out / "trials.csv", _trial_rows(outcomes, rates, out))

    dots, curves = _dots(figures), _curves(found)
    for name, drawing in {**dots, **curves}.items():
        with whole_file(out / f"{name}.svg") as aside:
            aside.write_text(standalone(drawing))
    modality = find_modality(data.spec.modality)
    versions, names = _versions(found, data, progress)
    own = {name: f"{name.replace('_', ' ')}, {unit}" for name, unit in modality.units.items()}
    title = "Test examples and their reconstructions by seed 0 of each method."
    modality.save_versions(out / "reconstructions", title, names, versions, data.spec)

    page = Page(
        f"{recipe.name}: {', '.join(methods)}",
        recipe.about,
        {"methods": str(len(methods)), "seeds": str(max(seeds.values())), "training runs": str(len(outcomes))},
        [
            Section(
                "Figures",
                _figures_text(next(iter(found.values()))[0], outcomes),
                [_table(summary, rates, seeds, QUALITY | own), _table(summary, rates, seeds, COST)],
            ),
            Section("Every seed", blocks=list(dots.values())),
            Section("Learning curves", "Figures of the validation split during training.", list(curves.values())),
            Section("Reconstructions", title, [modality.show_versions(versions, data.spec, "")]),
            Section("Learning rates", _choice_text(criterion, rates, ends), [_sweep(sweep, rates, ends, criterion)]),
            Section("Settings", blocks=[Settings(read_text(own[0].recipe), name) for name, own in found.items()]),
        ],
    )
    write_page(out / "report.html", page)
    return out / "report.html"


def _figures(run: RunFolder) -> dict[str, float]:
    """Return the figures of a trial: those of the test split, and those logged in training."""
    rows = read_metrics(run.metrics)
    train = [row for row in rows if row["split"] == "train"]
    last = [row for row in rows if row["split"] == "validation"][-1]
    evaluated = run.evaluated()
    assert evaluated is not None  # they are measured before they are reported
    return {
        **evaluated["figures"],
        **{name: last[name] for name in ("gradient_noise", "gradient_variance") if name in last},
        "steps_per_second": statistics.median(row["steps_per_second"] for row in train),
        "peak_memory_mib": max(row["peak_memory_mib"] for row in train),
    }


def _table(
    summary: Mapping[str, Mapping[str, Spread]],
    rates: Mapping[str, float],
    seeds: Mapping[str, int],
    columns: Mapping[str, str],
) -> Table:
    columns = {name: title for name, title in columns.items() if any(name in own for own in summary.values())}
    rows: list[list[Cell]] = [
        [
            method,
            f"{rates[method]:g}",
            seeds[method],
            *(str(figures[name]) if name in figures else None for name in columns),
        ]
        for method, figures in summary.items()
    ]
    return Table("", ["method", "learning rate", "seeds", *columns.values()], rows)


def _figures_text(run: RunFolder, outcomes: Sequence[Outcome]) -> str:
    evaluated = run.evaluated()
    assert evaluated is not None
    text = (
        f"Means ± standard deviations over the seeds of each method, on held-out {evaluated['unit']} "
        f"({evaluated_on(evaluated)}) that were used neither for training nor for choosing learning rates. The bits "
        "are an upper bound on -log2 p(x) under the fixed prior; the importance-weighted bound uses "
        f"S = {evaluated['samples']} samples. Gradient noise is the share of the expected squared length of the "
        "gradient of encoder and bottleneck that is variance over the draws. The noise and the variance are of one "
        "validation batch after the last step."
    )
    text += f" {evaluated['distances']}" if evaluated.get("distances") else ""
    lost = [f"{trial.method}, seed {trial.seed}" for trial, figures in outcomes if figures is None and trial.seed]
    return f"{text} Diverged in training and left out of the means: {'; '.join(lost)}." if lost else text


def _dots(figures: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, Figure]:
    def values(name: str) -> dict[str, list[float]]:
        return {method: [seed[name] for seed in seeds] for method, seeds in figures.items()}

    return {name: method_dots(title, values(name), "lower") for name, title in CURVES.items()}


def _curves(found: Mapping[str, Sequence[RunFolder]]) -> dict[str, Figure]:
    return {
        f"{name}_curves": method_curves(
            title, {method: [_validated(run, name) for run in runs] for method, runs in found.items()}
        )
        for name, title in CURVES.items()
    }


def _validated(run: RunFolder, name: str) -> list[tuple[float, float]]:
    return [(row["step"], row[name]) for row in read_metrics(run.metrics) if row["split"] == "validation"]


def _versions(
    found: Mapping[str, Sequence[RunFolder]], data: Data, progress: Progress
) -> tuple[dict[str, Sequence[Tensor]], list[str]]:
    """Return test examples, their reconstructions by the first seed of every method, and the examples' names."""
    models = {method: load(runs[0].path) for method, runs in found.items()}
    drawn = any(model.autoregressive for model in models.values())
    examples = data.test.subset(SHOWN[drawn]).numbered(data.classes)
    originals = [examples[index] for index in range(len(examples))]
    versions: dict[str, Sequence[Tensor]] = {"original": originals}
    for method, model in models.items():
        condition = torch.from_numpy(examples.labels) if model.conditional and examples.labels is not None else None
        made = decode_drawn(model, model.encode_all(originals), condition, None, progress)
        versions[method] = [y[:, : x.shape[1]] for x, y in zip(originals, made, strict=True)]
    return versions, distinct_stems([examples.name(index) for index in range(len(examples))])


def _choice_text(criterion: str, rates: Mapping[str, float], ends: Mapping[str, str]) -> str:
    text = (
        "Every method was trained once, with seed 0, at each learning rate of the sweep, and the rate with the lowest "
        f"{criterion} on the validation split was chosen."
    )
    if at_end := [f"{method} ({rates[method]:g}, the {end})" for method, end in ends.items() if end in ENDS]:
        text += (
            f" The chosen rate is at an end of the sweep, so a better one may lie beyond it: {', '.join(at_end)}. Add "
            "rates with --learning-rates and --resume."
        )
    if only := [method for method, end in ends.items() if end == "only"]:
        text += f" Only one rate was tried, so there was no choice: {', '.join(only)}."
    return text


def _sweep(sweep: Sequence[Outcome], rates: Mapping[str, float], ends: Mapping[str, str], criterion: str) -> Table:
    def remark(trial: Trial) -> str:
        if rates.get(trial.method) != trial.learning_rate:
            return ""
        end = ends[trial.method]
        return f"chosen; the {end} of the sweep" if end in ENDS else "chosen"

    rows: list[list[Cell]] = [
        [
            trial.method,
            f"{trial.learning_rate:g}",
            "diverged" if figures is None else f"{figures[criterion]:.4f}",
            remark(trial),
        ]
        for trial, figures in sweep
    ]
    return Table("", ["method", "learning rate", f"validation {criterion}", ""], rows)


def _summary_rows(
    summary: Mapping[str, Mapping[str, Spread]],
    rates: Mapping[str, float],
    ends: Mapping[str, str],
    seeds: Mapping[str, int],
) -> Iterable[dict[str, Any]]:
    for method, count in seeds.items():
        row: dict[str, Any] = {
            "method": method,
            "learning_rate": rates.get(method),
            "sweep_end": ends.get(method),
            "seeds": count,
        }
        for name, (mean, deviation) in summary.get(method, {}).items():
            row |= {name: mean, f"{name}_deviation": deviation}
        yield row


def _trial_rows(outcomes: Sequence[Outcome], rates: Mapping[str, float], out: Path) -> Iterable[dict[str, Any]]:
    """Yield each trial's validation figures after the last step, and its test figures if its rate was chosen."""
    for trial, figures in outcomes:
        row: dict[str, Any] = {"method": trial.method, "learning_rate": trial.learning_rate, "seed": trial.seed}
        row |= {"diverged": figures is None} | {f"validation_{name}": value for name, value in (figures or {}).items()}
        if figures is not None and rates.get(trial.method) == trial.learning_rate:
            tested = _figures(RunFolder(out / "trials" / trial.name))
            row |= {f"test_{name}": value for name, value in tested.items() if name not in COST}
            row |= {name: tested[name] for name in ("steps_per_second", "peak_memory_mib")}
        yield row
