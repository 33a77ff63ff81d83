"""The report of a run: what it reconstructs, samples and costs, how its codes are used, how it was trained."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch

from narrows.bottlenecks import HierarchicalPosterior, Hierarchy
from narrows.evaluation import Measurement, measure
from narrows.files import read_yaml
from narrows.modalities.images.files import to_unit
from narrows.modalities.images.images import ImageData, Images
from narrows.modalities.images.pictures import grid, interpolation, pairs
from narrows.models import Autoencoder, TwoStage
from narrows.pretrained import load
from narrows.report.figures import COLLAPSED, layer_bars
from narrows.report.page import Cell, Page, Section, Table, write_page
from narrows.report.sections import bits, codes_in_use, counted, training_and_settings
from narrows.training.run import RunFolder

__all__ = ["report_run"]

MEASURED = 1000
CLASSES_SHOWN = 10
COLUMNS = 8
WALKS = 4
NOTHING_HELD_OUT = "The validation split holds no image, so that nothing is measured, reconstructed or interpolated."


def report_run(run: RunFolder, data: ImageData, device: str | torch.device = "cpu") -> None:
    """Write `report.html` of a run from its saved model, its logs, and held-out images of `data`.

    The figures are measured on `device`, the pictures made on the CPU.
    """
    model = load(run.path, device)
    validation = data.validation.subset(MEASURED)
    measured = measure(model, validation) if len(validation) else None
    model.cpu()
    facts: dict[str, str] = {}
    if measured is None:
        sections = [Section("Validation", NOTHING_HELD_OUT), *_samples(model), *_refinement(model)]
    else:
        facts = _facts(model, measured) | _held(run, measured)
        sections = _of_validation(run, model, validation, len(data.validation), measured)
    sections += training_and_settings(run, model)
    size = "×".join(map(str, model.shape[1:]))
    count = f"{len(data.train)} " if isinstance(data.train, Images) else "streamed "
    subtitle = f"{count}training images of {size} pixels, {model.shape[0]} channel{'s' * (model.shape[0] > 1)}"
    write_page(run.report, Page(run.path.resolve().name, subtitle, facts, sections))


def _of_validation(
    run: RunFolder, model: Autoencoder, validation: Images, total: int, measured: Measurement
) -> list[Section]:
    """The sections of a run that holds out images: `validation`, of `total`, as they were measured."""
    originals = to_unit(torch.from_numpy(validation.pixels[:16].copy()))
    sections = [
        Section(
            "Reconstructions",
            "Images of the validation split, never trained on, and the mean of p(x|z) given their codes.",
            [pairs(originals, model.reconstruct(originals))],
        ),
        *_samples(model),
        *_between(model, originals),
        bits(
            run,
            model,
            measured,
            _bits_text(model, len(validation)),
            "images",
            counted("validation", len(validation), total),
        ),
    ]
    if measured.layer_rates:
        sections.append(_layers(measured.layer_rates))
    if isinstance(model.bottleneck, Hierarchy) and not isinstance(model, TwoStage):
        sections.append(_from_coarse_to_fine(model, originals[:COLUMNS]))
    sections += _refinement(model)
    sections += codes_in_use(measured, f"On {len(validation)} validation images.")
    return sections


def _facts(model: Autoencoder, measured: Measurement) -> dict[str, str]:
    figures = measured.figures
    best = min(figures["bits_per_dim"], figures.get("prior_bits_per_dim", float("inf")))
    facts = {
        "-log2 p(x) is at most": f"{best:.3f} bits/dim",
        "reconstruction": f"{figures['psnr']:.1f} dB PSNR",
    }
    if "perplexity" in figures:
        facts["codes"] = f"{figures['perplexity']:.0f} perplexity, of {model.codes.codebook_size}"
        bits = math.prod(model.codes.grid) * model.codes.codebooks * math.log2(model.codes.codebook_size)
        share = f", 1/{8 * model.dimensions / bits:.0f} of its pixels'" if bits else ""
        facts["an image"] = f"{bits:.0f} bits{share}"
    return facts


def _held(run: RunFolder, measured: Measurement) -> dict[str, str]:
    """The squared error that was reached beside the one that was asked for, where one was."""
    gamma = read_yaml(run.recipe)["estimator"].get("init_args", {}).get("gamma")
    return {} if gamma is None else {f"squared error, held to {gamma:g}": f"{measured.figures['squared_error']:.4g}"}


def _layers(rates: Mapping[tuple[str, int], float]) -> Section:
    """What each layer costs, and each resolution; layers without rate are named."""
    groups: dict[str, list[float]] = {}
    for (group, _), rate in rates.items():
        groups.setdefault(group, []).append(rate)
    collapsed = [f"{group} layer {number}" for (group, number), rate in rates.items() if rate < COLLAPSED]
    text = f"Of {len(rates)} layers, {len(collapsed) or 'none'} carr{'ies' if len(collapsed) == 1 else 'y'} less than "
    text += f"{COLLAPSED:g} nats" + (f" and collapsed: {'; '.join(collapsed)}." if collapsed else ": none collapsed.")
    rows: list[list[Cell]] = [
        [group, len(own), sum(own), "  ".join(f"{rate:.3g}" for rate in own)] for group, own in groups.items()
    ]
    columns = ["latents", "layers", "rate, nats", "of each layer"]
    return Section("Rate by layer", text, [layer_bars(rates), Table("On validation images.", columns, rows)])


@torch.no_grad()
def _from_coarse_to_fine(model: Autoencoder, originals: torch.Tensor) -> Section:
    """Reconstructions from the latents up to each resolution."""
    posterior = model.posterior(originals)
    assert isinstance(posterior, HierarchicalPosterior)
    resolutions = list(posterior.hierarchy.layers)
    rows = [model.observe(posterior.partial(resolution)).mean for resolution in resolutions]
    names = [*(f"up to {resolution}x{resolution}" for resolution in resolutions), "original"]
    text = (
        "The mean of p(x|z) where the latents up to a resolution know the image, and the finer are the prior's means."
    )
    pictures = grid(torch.cat([*rows, originals]), len(originals), names, "Validation images.")
    return Section("From coarse to fine", text, [pictures])


@torch.no_grad()
def _refinement(model: Autoencoder) -> Iterator[Section]:
    """What the second stage makes of samples of the first; nothing of a model of one stage."""
    if not isinstance(model, TwoStage) or model.lacks_prior:
        return
    torch.manual_seed(0)
    known = model.first.sample(8 * COLUMNS)
    refined = model.refine(known).mean
    change = (refined - known).abs().mean().item()
    text = (
        f"Samples of the first stage, each above what the second makes of it. Over {len(known)} samples a pixel "
        f"changes by {change:.4f} on average, of a range of 1."
    )
    yield Section("What the second stage adds", text, [pairs(known[:16], refined[:16], "First, then both.")])


def _samples(model: Autoencoder) -> Iterator[Section]:
    """Samples by class; none from a discrete model that has no learned prior yet, whose uniform codes show nothing."""
    if model.lacks_prior:
        return
    torch.manual_seed(0)
    if model.prior is None or not model.classes:
        yield Section("Samples", "Drawn from the prior.", [grid(model.sample(5 * COLUMNS), COLUMNS)])
        return
    shown = model.classes[:CLASSES_SHOWN]
    labels = torch.arange(len(shown)).repeat_interleave(COLUMNS)
    pictures = grid(model.sample(len(labels), labels), COLUMNS, shown, _classes_shown(len(shown), len(model.classes)))
    yield Section("Samples", "Codes drawn from the learned prior given a class, then decoded.", [pictures])


def _classes_shown(shown: int, classes: int) -> str:
    return "A row for each class." if shown == classes else f"A row for each of the first {shown} of {classes} classes."


def _between(model: Autoencoder, originals: torch.Tensor) -> Iterator[Section]:
    """Interpolations between as many pairs of the images as there are, at most `WALKS`; none of a single image."""
    half = len(originals) // 2
    count = min(WALKS, half)
    if count:
        walks = model.interpolate(originals[:count], originals[half : half + count], steps=COLUMNS)
        yield Section("Between two images", blocks=[interpolation(walks)])


def _bits_text(model: Autoencoder, images: int) -> str:
    return (
        f"An upper bound on -log2 p(x), on {images} validation images: what the codes cost plus what remains given "
        f"them, under {type(model.likelihood).__name__} pixels."
    )
