"""The report of a run: reconstructions, samples, bits, codebook use, training curves and settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import torch

from narrows.bottlenecks import HierarchicalPosterior, Hierarchy
from narrows.data import Data, Examples
from narrows.evaluation import Measurement, measure
from narrows.files import read_yaml
from narrows.modalities import find_modality
from narrows.modality import Modality, Row
from narrows.models import Autoencoder
from narrows.pretrained import load
from narrows.progress import Progress, drawing, hidden
from narrows.report.figures import COLLAPSED, layer_bars
from narrows.report.page import Cell, Page, Section, Table, write_page
from narrows.report.sections import bits, codes_in_use, counted, reconstructed, training_and_settings
from narrows.sampling import Sampling
from narrows.training.run import RunFolder

__all__ = ["report_run"]

MEASURED = {False: 1000, True: 50}
"""Number of validation examples to measure, by whether their length varies; those are measured one by one."""
SHOWN, COLUMNS, ROWS, WALKS = 16, 8, 5, 4
CLASSES_SHOWN = 10
DRAWN = 6
"""Number of samples from a decoder that draws position by position."""


def report_run(run: RunFolder, data: Data, device: str | torch.device = "cpu", progress: Progress = hidden) -> None:
    """Write `report.html` of a run from its saved model, its logs, and held-out examples of `data`.

    Figures are measured on `device`. Data drawn position by position are drawn there too, everything else on the CPU.
    """
    model = load(run.path, device)
    modality = find_modality(model.spec.modality)
    validation = data.validation.subset(MEASURED[model.variable]).numbered(model.classes)
    facts: dict[str, str] = {}
    if len(validation):
        figures_of = partial(modality.figures, spec=model.spec) if modality.has_figures else None
        measured = measure(model, validation, figures=figures_of)
        facts = {**_facts(model, modality, measured), **_held(run, measured)}
        if not (model.autoregressive and model.variable):
            model.cpu()
        sections = list(_of_validation(run, model, modality, data, validation, measured, progress))
    else:
        text = f"The validation split holds no {modality.unit}, so nothing was measured or reconstructed."
        sections = [
            Section("Validation", text),
            *_samples(model, modality, progress),
            *_refinement(model, modality),
            *modality.sections(run, model, data),
        ]
    sections += training_and_settings(run, model)
    write_page(run.report, Page(run.path.resolve().name, modality.describe(data, model.spec), facts, sections))


def _of_validation(
    run: RunFolder,
    model: Autoencoder,
    modality: Modality,
    data: Data,
    validation: Examples,
    measured: Measurement,
    progress: Progress,
) -> Iterator[Section]:
    """Yield the sections on some examples of the validation split, `validation`, with their figures `measured`."""
    count, total = len(validation), len(data.validation)
    yield from modality.reconstructions(model, validation, progress) or _reconstructions(model, modality, validation)
    yield from _samples(model, modality, progress)
    if not model.variable:
        yield from _between(model, modality, validation)
    text = (
        f"An upper bound on -log2 p(x), on {count} validation {modality.unit}: the cost of the codes plus that of the "
        f"{modality.dimension} given the codes, under the likelihood {type(model.likelihood).__name__}."
    )
    if "bits_per_code_swapped" in measured.figures:
        own, swapped, whole = (measured.figures[f"bits_per_code{end}"] for end in ("", "_swapped", "_with_latents"))
        text += (
            f" The cost of the {modality.dimension} includes that of the first stage's codes: {own:.3f} bits a code "
            f"given their own latents ({whole:.3f} with the bits of these), and {swapped:.3f} given those of other "
            f"{modality.unit}. The latents are used as far as the last is larger."
        )
    if model.spec.bounds is None:
        text += " The data are continuous, so this is the logarithm of a density, which may be negative."
    of = modality.dimension if model.variable else modality.unit
    yield bits(run, model, measured, text, of, counted("validation", count, total), modality.units)
    if measured.layer_rates:
        yield _layers(measured.layer_rates)
    if isinstance(model.bottleneck, Hierarchy) and model.stages == 1:
        yield _from_coarse_to_fine(model, modality, validation)
    yield from _refinement(model, modality)
    yield from modality.sections(run, model, data)
    yield from codes_in_use(measured, f"On {count} validation {modality.unit}.")


def _facts(model: Autoencoder, modality: Modality, measured: Measurement) -> dict[str, str]:
    figures = measured.figures
    best = min(figures["bits_per_dim"], figures.get("prior_bits_per_dim", float("inf")))
    facts = {"-log2 p(x) is at most": f"{best:.3f} bits/dim"}
    if "perplexity" in figures:
        facts["codes"] = f"{figures['perplexity']:.0f} perplexity, of {model.codes.codebook_size}"
    return {**facts, **modality.facts(model, figures)}


def _held(run: RunFolder, measured: Measurement) -> dict[str, str]:
    """Return the squared error reached and its target, if the run had one."""
    gamma = read_yaml(run.recipe)["estimator"].get("init_args", {}).get("gamma")
    if gamma is None or "squared_error" not in measured.figures:
        return {}
    return {f"squared error (target {gamma:g})": f"{measured.figures['squared_error']:.4g}"}


def _layers(rates: Mapping[tuple[str, int], float]) -> Section:
    """Return the section on the rates of layers and resolutions, which names collapsed layers."""
    groups: dict[str, list[float]] = {}
    for (group, _), rate in rates.items():
        groups.setdefault(group, []).append(rate)
    collapsed = [f"{group} layer {number}" for (group, number), rate in rates.items() if rate < COLLAPSED]
    text = f"Of {len(rates)} layers, {len(collapsed) or 'none'} carr{'ies' if len(collapsed) == 1 else 'y'} less than "
    text += f"{COLLAPSED:g} nats" + (f" and collapsed: {'; '.join(collapsed)}." if collapsed else ": none collapsed.")
    rows: list[list[Cell]] = [
        [group, len(own), sum(own), "  ".join(f"{rate:.3g}" for rate in own)] for group, own in groups.items()
    ]
    columns = ["latents", "layers", "rate, nats", "rate of each layer, nats"]
    return Section("Rate by layer", text, [layer_bars(rates), Table("On the validation split.", columns, rows)])


def _stacked(examples: Examples, count: int) -> torch.Tensor:
    return torch.stack([examples[index] for index in range(min(count, len(examples)))])


def _reconstructions(model: Autoencoder, modality: Modality, examples: Examples) -> Iterator[Section]:
    originals = _stacked(examples, SHOWN)
    made = model.versions(originals.to(next(model.parameters()).device))
    versions = {"original": list(originals), **{name: list(x.cpu()) for name, x in made.items()}}
    unit = modality.unit.capitalize()
    text = f"{unit} of the validation split, which the model was not trained on, and {reconstructed(model)}"
    if len(made) > 1:
        caption = "Originals, the first stage's reconstructions, and draws from the same latents."
    else:
        caption = "Originals, each directly above its reconstruction."
    yield Section("Reconstructions", text, [modality.show_versions(versions, model.spec, caption)])


@torch.no_grad()
def _from_coarse_to_fine(model: Autoencoder, modality: Modality, examples: Examples) -> Section:
    """Return the section on reconstructions from the latents up to each resolution."""
    originals = _stacked(examples, COLUMNS)
    posterior = model.posterior(originals)
    assert isinstance(posterior, HierarchicalPosterior)
    versions = {
        f"up to {resolution}x{resolution}": list(model.observe(posterior.partial(resolution)).mean)
        for resolution in posterior.hierarchy.layers
    }
    text = (
        "The mean of p(x|z) with the latents up to a resolution inferred from the example, and the finer latents set "
        "to the prior's means."
    )
    block = modality.show_versions({**versions, "original": list(originals)}, model.spec, "Validation examples.")
    return Section("From coarse to fine", text, [block])


@torch.no_grad()
def _refinement(model: Autoencoder, modality: Modality) -> Iterator[Section]:
    """Yield the section on samples of the first stage refined by the second, for two-stage models that can sample."""
    if model.stages == 1 or model.autoregressive or model.lacks_prior:
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        known = model.first.sample(8 * COLUMNS)
        refined = model.refine(known).mean
    change = (refined - known).abs().mean().item()
    text = (
        f"Samples of the first stage, each above its refinement by the second. Over {len(known)} samples, values in "
        f"[0, 1] change by {change:.4f} on average."
    )
    versions = {"first": list(known[:SHOWN]), "both": list(refined[:SHOWN])}
    block = modality.show_versions(versions, model.spec, "First stage alone, then both stages.")
    yield Section("Second stage", text, [block])


def _samples(model: Autoencoder, modality: Modality, progress: Progress) -> Iterator[Section]:
    """Yield the section on samples, by class if there are classes.

    A discrete model without a learned prior has none, because uniform codes do not decode to realistic data.
    """
    if model.lacks_prior:
        return
    shown = model.classes[:CLASSES_SHOWN]
    if model.variable:
        labels = torch.arange(DRAWN) % max(1, len(model.classes))
        with drawing(progress, "sample", DRAWN, model.sampled_length, model.spec.rate) as advance:
            made = model.sample(DRAWN, labels if model.classes else None, Sampling(seed=0), progress=advance)
        rows = [
            Row(model.classes[label] if model.informed else "", [x])
            for label, x in zip(labels.tolist(), made, strict=True)
        ]
        caption = "Samples."
    elif model.prior is None or not model.classes:
        made = _seeded_samples(model, ROWS * COLUMNS, None)
        rows = [Row("", list(part)) for part in made.split(COLUMNS)]
        caption = "Samples."
    else:
        made = _seeded_samples(model, len(shown) * COLUMNS, torch.arange(len(shown)).repeat_interleave(COLUMNS))
        rows = [Row(name, list(part)) for name, part in zip(shown, made.split(COLUMNS), strict=True)]
        caption = _classes_shown(len(shown), len(model.classes))
    block = modality.show_rows(rows, model.spec, caption)
    yield Section("Samples", "Latents drawn from the prior, then decoded.", [block])


def _seeded_samples(model: Autoencoder, count: int, labels: torch.Tensor | None) -> torch.Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return model.sample(count, labels)


def _classes_shown(shown: int, classes: int) -> str:
    return "One row per class." if shown == classes else f"One row per class, for the first {shown} of {classes}."


def _between(model: Autoencoder, modality: Modality, examples: Examples) -> Iterator[Section]:
    """Yield the section on interpolations between at most `WALKS` pairs of examples, if there are two examples."""
    originals = _stacked(examples, SHOWN)
    half = len(originals) // 2
    count = min(WALKS, half)
    if count:
        walks = model.interpolate(originals[:count], originals[half : half + count], steps=COLUMNS)
        rows = [Row("", list(walk)) for walk in walks]
        caption = "Each row goes from one example to another in equal steps of the encoder's features."
        yield Section("Between two examples", blocks=[modality.show_rows(rows, model.spec, caption)])
