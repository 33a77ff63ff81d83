"""Encoding, decoding, reconstruction, sampling and interpolation of files, for every kind of data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from narrows.commands.codes import CodesOfFiles, read_codes, require_npz, write_codes
from narrows.commands.source import open_run, open_run_data, what_changed
from narrows.decoding import (
    Decoding,
    class_index,
    conditions,
    decode_drawn,
    require_prior,
    sampling_of,
)
from narrows.errors import NarrowsError
from narrows.files import distinct_stems
from narrows.modalities import find_modality
from narrows.modality import Row
from narrows.models import Autoencoder
from narrows.pretrained import load
from narrows.progress import Progress, drawing, hidden
from narrows.sampling import Sampling

__all__ = ["decode", "encode", "interpolate", "reconstruct", "sample"]

SHOWN = {False: 16, True: 8}
"""Number of test examples to reconstruct, by whether the decoder is autoregressive (and so slower)."""

Options = Mapping[str, Any]
"""Command options that only one kind of data has; None means not set."""


def encode(folder: str, files: Sequence[Path], out: Path) -> np.ndarray:
    """Write the codes of files (latents, for a VAE) to the .npz file `out`, and return them.

    See `narrows.commands.codes` for the format.

    Raises:
        NarrowsError: if a file cannot be read, or `out` has another suffix.
    """
    require_npz(out)
    model = load(folder)
    examples = find_modality(model.spec.modality).read(files, model.spec)
    codes = [part.numpy() for part in model.encode_all(examples)]
    sizes = [tuple(x.shape[1:]) for x in examples]
    return write_codes(out, folder, CodesOfFiles(codes, sizes, [str(file) for file in files]))


def decode(
    folder: str, file: Path, out: Path, decoding: Decoding | None = None, progress: Progress = hidden
) -> list[Path]:
    """Decode a file of codes into the folder `out`; each file is named after its original.

    Args:
        folder: the run folder, or its id on the hub.
        file: a file written by `encode`.
        out: folder to write to.
        decoding: the class to decode as, and how an autoregressive decoder draws.
        progress: shows the progress.

    Raises:
        NarrowsError: if the file is damaged or from another model, or the class is missing or unknown.
    """
    model, decoding = load(folder), decoding or Decoding()
    condition = conditions(model, decoding.label, 1)
    coded = read_codes(file, folder)
    codes = [torch.from_numpy(part) for part in coded.codes]
    made = decode_drawn(model, codes, _for_all(condition, len(codes)), decoding, progress)
    modality = find_modality(model.spec.modality)
    written = [out / f"{stem}{modality.suffix_of(model.spec)}" for stem in distinct_stems(coded.names)]
    for path, x, size in zip(written, made, coded.sizes, strict=True):
        modality.write(path, x[:, : size[0]] if size else x, model.spec)
    return written


def reconstruct(
    folder: str,
    files: Sequence[Path] = (),
    out: Path | None = None,
    decoding: Decoding | None = None,
    options: Options | None = None,
    progress: Progress = hidden,
    draws: int = 1,
) -> Path:
    """Write reconstructions next to their originals, and return the path to open.

    For a model upon another, the first stage's reconstructions are between them.

    Args:
        folder: the run folder, or its id on the hub.
        files: files to reconstruct; if empty, some of the run's test split, each with its own class.
        out: the file or folder; None means `reconstructions` in the run folder.
        decoding: the class to decode as, and how an autoregressive decoder draws.
        options: options of the kind of data.
        progress: shows the progress.
        draws: number of reconstructions of each example by a decoder that draws.

    Raises:
        NarrowsError: if a file cannot be read, or an option does not fit the model.
    """
    model, decoding = load(folder), decoding or Decoding()
    modality = find_modality(model.spec.modality)
    chosen = modality.accept("reconstruct", options or {}, folder)
    if draws > 1 and not model.autoregressive:
        raise NarrowsError(
            f"--draws {draws}: this model's decoder is deterministic, so all would be equal; leave it out"
        )
    if files:
        condition = conditions(model, decoding.label, len(files))
        originals, names = modality.read(files, model.spec), [str(file) for file in files]
    else:
        originals, names, condition = _of_test_split(folder, model, progress)
        if decoding.label is not None:
            condition = conditions(model, decoding.label, len(names))
    codes, versions = model.encode_all(originals), {"original": originals}
    if model.stages > 1:
        below = model.first
        versions["first stage"] = decode_drawn(below, below.encode_all(originals), condition, None, progress)
    if draws > 1:  # one generator for all, so that the first is the same however many follow
        how = sampling_of(model, decoding)
        decoding = replace(decoding, sampling=replace(how, seed=how.generator))
    for number in range(1, draws + 1):
        name = "reconstruction" if draws == 1 else f"reconstruction {number}"
        versions[name] = decode_drawn(model, codes, condition, decoding, progress)
    versions = {name: [_cut(x, y) for x, y in zip(originals, made, strict=True)] for name, made in versions.items()}
    out = out or open_run(folder).outputs / "reconstructions"
    return modality.save_versions(
        out, f"Reconstructions by {folder}", distinct_stems(names), versions, model.spec, **chosen
    )


def sample(
    folder: str,
    n: int = 16,
    out: Path | None = None,
    sampling: Sampling | None = None,
    decoding: Decoding | None = None,
    full: bool = False,
    options: Options | None = None,
    progress: Progress = hidden,
) -> Path:
    """Write samples from the run's prior, and return the path to open; if no class is given, the classes alternate.

    Args:
        folder: the run folder, or its id on the hub.
        n: number of samples.
        out: the file or folder; None means `samples` in the run folder.
        sampling: how codes are drawn; None for the defaults with seed 0.
        decoding: the class to sample, and how an autoregressive decoder draws.
        full: also draw the data from p(x|z) instead of using its mean, as an autoregressive decoder always does.
        options: options of the kind of data.
        progress: shows the progress.

    Raises:
        NarrowsError: if there is no prior, or an option has no effect.
    """
    model, sampling, decoding = load(folder), sampling or Sampling(seed=0), decoding or Decoding()
    modality = find_modality(model.spec.modality)
    chosen = modality.accept("sample", options or {}, folder)
    require_prior(folder, model, model.sampled_prior, sampling, decoding.label)
    if full and model.autoregressive:
        raise NarrowsError(f"--full: a {type(model.decoder).__name__} always draws data in full; leave it out")
    labels: list[int] = []
    if model.classes:
        turn = range(len(model.classes)) if decoding.label is None else [class_index(model, decoding.label)]
        labels = [turn[index % len(turn)] for index in range(n)]
    made = _sampled(model, n, torch.tensor(labels) if labels else None, sampling, decoding, full, progress)
    names = [model.classes[label] for label in labels] if model.informed else [""] * n
    rows = [Row(name, [x]) for name, x in zip(names, made, strict=True)]
    out = out or open_run(folder).outputs / "samples"
    return modality.save_rows(out, f"Samples of {folder}", rows, model.spec, **chosen)


def interpolate(
    folder: str,
    start: Path,
    end: Path,
    steps: int = 9,
    out: Path | None = None,
    decoding: Decoding | None = None,
    options: Options | None = None,
    progress: Progress = hidden,
) -> Path:
    """Write a row of `steps` examples interpolated between two files, and return the path to open.

    Args:
        folder: the run folder, or its id on the hub.
        start: file of the first example; the shorter of the two is padded at its end.
        end: file of the last example.
        steps: number of examples, including the ends.
        out: the file or folder; None means `interpolation` in the run folder.
        decoding: the class to decode as, and how an autoregressive decoder draws.
        options: options of the kind of data.
        progress: shows the progress.

    Raises:
        NarrowsError: if there are fewer than two steps, or a file cannot be read.
    """
    if steps < 2:
        raise NarrowsError(f"--steps is {steps}: it must be at least 2")
    model, decoding = load(folder), decoding or Decoding()
    modality = find_modality(model.spec.modality)
    chosen = modality.accept("interpolate", options or {}, folder)
    condition, how = conditions(model, decoding.label, 1), sampling_of(model, decoding)
    first, last = modality.read([start, end], model.spec)
    length = max(first.shape[1], last.shape[1])
    ends = [_lengthened(x, length).unsqueeze(0) for x in (first, last)]
    with drawing(progress, "decode", steps, length, model.spec.rate) as advance:
        path = model.interpolate(ends[0], ends[1], steps, condition, how, advance if model.autoregressive else None)[0]
    out = out or open_run(folder).outputs / "interpolation"
    return modality.save_rows(out, f"From {start.name} to {end.name}", [Row("", list(path))], model.spec, **chosen)


def _sampled(
    model: Autoencoder,
    n: int,
    condition: Tensor | None,
    sampling: Sampling,
    decoding: Decoding,
    full: bool,
    progress: Progress,
) -> list[Tensor]:
    """Return samples [C, *size]; the seed also determines the draws from the fixed prior and of `full`."""
    how = None if decoding.sampling is None else sampling_of(model, decoding)
    prior = model.sampled_prior
    with _seeded(sampling.seed):
        if model.autoregressive:
            with drawing(progress, "sample", n, model.sampled_length, model.spec.rate) as advance:
                return list(model.sample(n, condition, sampling, how, advance))
        sampling_of(model, decoding)
        unseeded = Sampling(sampling.temperature, sampling.top_k, sampling.top_p)
        with progress("sample", prior.length if prior else 1, "codes") as meter:
            observation = model.generate(n, condition, unseeded, lambda done, _: meter.to(done))
        return list(observation.sample() if full else observation.mean)


def _of_test_split(
    folder: str, model: Autoencoder, progress: Progress
) -> tuple[list[Tensor], list[str], Tensor | None]:
    """Return examples of the run's test split, their names, and their classes for the decoder."""
    run = open_run(folder)
    data = open_run_data(run, model, progress=progress)
    what_changed(run, data)
    examples = data.test.subset(SHOWN[model.autoregressive]).numbered(model.classes)
    count = len(examples)
    if not count:
        raise NarrowsError(f"the test split of {folder} is empty: name files to reconstruct")
    condition = torch.from_numpy(examples.labels) if model.conditional else None
    return [examples[index] for index in range(count)], [examples.name(index) for index in range(count)], condition


def _for_all(condition: Tensor | None, count: int) -> Tensor | None:
    return None if condition is None else condition.expand(count)


def _cut(original: Tensor, made: Tensor) -> Tensor:
    return made[:, : original.shape[1]]


def _lengthened(x: Tensor, length: int) -> Tensor:
    return F.pad(x, [0, 0] * (x.ndim - 2) + [0, length - x.shape[1]])


@contextmanager
def _seeded(seed: int | torch.Generator | None) -> Iterator[None]:
    """Seed the global random numbers while the block runs, then restore their state."""
    with torch.random.fork_rng(devices=[]):
        if isinstance(seed, int):
            torch.manual_seed(seed)
        yield
