"""Supervised use of a trained encoder: a recurrent classifier of windows that starts from its weights and its state.

O. Fabius, J. R. van Amersfoort, "Variational Recurrent Auto-Encoders" (2015): "the model can make use of unlabeled data
in order to facilitate supervised training of RNNs by initialising the weights and network state".
"""

from __future__ import annotations

import copy
import csv
import io
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from narrows.atomic import whole_file
from narrows.commands.source import open_run, open_run_data
from narrows.errors import NarrowsError
from narrows.files import read_text
from narrows.modalities.music.latents import window_latents
from narrows.modalities.music.rolls import Rolls
from narrows.models import Autoencoder
from narrows.networks import RecurrentEncoder
from narrows.pretrained import load
from narrows.progress import Progress, hidden
from narrows.report.page import Cell, Figure, Page, Section, Table, write_page
from narrows.report.svg import HUES, chart, padded, standalone, to_svg
from narrows.report.tables import write_csv

logger = logging.getLogger(__name__)

__all__ = ["METHODS", "Classifier", "Result", "finetune"]

METHODS = {
    "warm": "from the trained encoder",
    "cold": "from random weights",
    "frozen": "frozen encoder, linear classifier",
}
LEARNING_RATE, BATCH = 1e-3, 100


@dataclass(frozen=True)
class Result:
    """The accuracy of one classifier.

    Args:
        method: one of `METHODS`.
        labels: labelled windows of each class; None if all were used.
        seed: seed of the choice of windows and of new weights.
        accuracy: share of the test windows that are classified right.
    """

    method: str
    labels: int | None
    seed: int
    accuracy: float


class Labelled(NamedTuple):
    """Windows with their classes."""

    x: Tensor
    """The windows, [M, C, T]."""
    y: Tensor
    """Their classes, int64 [M]."""


class Classifier(nn.Module):
    """A recurrent network with a learnt first state, and a linear classifier of its last state.

    Args:
        encoder: gives the network, by its sizes.
        classes: number of classes.
        state: the first state, [hidden], and the network's weights those of the encoder; None for a state of zeros and
            new random weights.
    """

    def __init__(self, encoder: RecurrentEncoder, classes: int, state: Tensor | None) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder)
        if state is None:
            self.encoder.network.reset_parameters()
        hidden_size = self.encoder.network.hidden_size
        self.state = nn.Parameter(torch.zeros(hidden_size) if state is None else state.clone())
        self.out = nn.Linear(hidden_size, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of windows [B, C, T], scaled as for the encoder: [B, classes]."""
        return self.out(self.encoder.last_states(x, state=self.state)[:, 0])


def finetune(
    folder: str,
    table: Path | None = None,
    counts: Sequence[int] = (1, 2, 5, 10),
    seeds: int = 5,
    steps: int = 200,
    out: Path | None = None,
    progress: Progress = hidden,
) -> Path:
    """Train classifiers of windows with few labels, and return the path of the page that compares them.

    Three methods are compared: a recurrent network that starts from the encoder's weights and, as its first state, the
    mean of the encoder's last states over all training windows of the labelled songs; the same network from random
    weights and a state of zeros; and a linear classifier of the frozen encoder's last states. They are trained on
    windows of the training part, and measured on those of the test part.

    Args:
        folder: the run folder, or its id on the hub.
        table: a CSV file with the columns `file` and `label`; songs that it does not name are left out. None makes
            every song a class.
        counts: numbers of labelled windows of each class; all windows are used in the end, too.
        seeds: number of choices of windows and of new weights.
        steps: optimiser steps of the recurrent classifiers.
        out: folder to write to; None means `finetuned` in the run folder.
        progress: shows the progress.

    Raises:
        NarrowsError: if the model has no recurrent encoder, the table does not fit the songs, or there are fewer than
            two classes.
    """
    model = load(folder)
    if not isinstance(model.encoder, RecurrentEncoder):
        raise NarrowsError(
            f"the encoder of {folder} is a {type(model.encoder).__name__}: this needs a RecurrentEncoder"
        )
    run = open_run(folder)
    data = open_run_data(run, model, progress=progress)
    classes, of_song = _classes(model, table)
    train, test = (_labelled(model, part, of_song) for part in (data.train, data.test))
    present = [name for number, name in enumerate(classes) if (train.y == number).any()]
    known = torch.isin(test.y, train.y.unique())
    if not known.all():
        logger.warning("%d of %d test windows are of classes without training windows, and left out", *_share(~known))
        test = Labelled(test.x[known], test.y[known])
    if len(present) < 2 or not len(test.y):
        raise NarrowsError(
            f"{len(present)} classes have training windows, and {len(test.y)} test windows are of these: there must be "
            "two classes, and test windows of them (with data.hold_out=song, give a table whose classes have several "
            "songs)"
        )
    with torch.no_grad():
        states = _states(model.encoder, train.x), _states(model.encoder, test.x)
    found: list[Result] = []
    asked = [*counts, None]
    with torch.random.fork_rng(devices=[]), progress("finetune", len(asked) * seeds * len(METHODS), "models") as meter:
        for count in asked:
            for seed in range(seeds):
                torch.manual_seed(seed)
                chosen = _chosen(train.y, count)
                given = Labelled(train.x[chosen], train.y[chosen])
                for method in METHODS:
                    if method == "frozen":
                        accuracy = _linear(states[0][chosen], given.y, states[1], test.y)
                    else:
                        state = states[0].mean(0) if method == "warm" else None
                        classifier = Classifier(model.encoder, len(classes), state)
                        accuracy = _trained(classifier, given, test, steps)
                    found.append(Result(method, count, seed, accuracy))
                    meter.advance()
    chance = float(torch.bincount(test.y).max() / len(test.y))
    return _report(found, chance, folder, out or run.outputs / "finetuned")


def _classes(model: Autoencoder, table: Path | None) -> tuple[list[str], dict[int, int]]:
    """Return the classes, and the class of each song that has one."""
    if table is None:
        return model.classes, {number: number for number in range(len(model.classes))}
    text = read_text(table).removeprefix("\ufeff")  # a mark that spreadsheets put before UTF-8
    rows = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    if not {"file", "label"} <= set(rows.fieldnames or ()):
        raise NarrowsError(f"{table} has no columns `file` and `label`, only {', '.join(rows.fieldnames or ())}")
    labels: dict[str, str] = {}
    for line, row in enumerate(rows, 2):
        file, label = row["file"] or "", row["label"] or ""
        if not file or not label:
            raise NarrowsError(f"{table}, line {line}: there is no {'label' if file else 'file'}")
        song = file if file in model.classes else str(Path(file).with_suffix(""))
        if labels.setdefault(song, label) != label:
            raise NarrowsError(f"{table}, line {line}: {file} is already labelled {labels[song]!r}")
    if unknown := sorted(set(labels) - set(model.classes)):
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise NarrowsError(f"{table} names files that the run does not have: {', '.join(unknown[:5])}{more}")
    classes = sorted(set(labels.values()))
    return classes, {model.classes.index(file): classes.index(label) for file, label in labels.items()}


def _share(chosen: Tensor) -> tuple[int, int]:
    return int(chosen.sum()), len(chosen)


def _labelled(model: Autoencoder, rolls: Rolls, of_song: dict[int, int]) -> Labelled:
    """Return the whole windows of songs that have a class, scaled as for the encoder."""
    places = window_latents(model, rolls)
    kept = [index for index, song in enumerate(places.song.tolist()) if song in of_song]
    windows = [
        torch.from_numpy(rolls.stored(int(places.stretch[index]))[start : start + model.hop].T.astype(np.float32))
        for index in kept
        for start in [int(places.start[index])]
    ]
    x = torch.stack(windows) if windows else torch.zeros(0, *model.shape[:1], model.hop)
    y = torch.tensor([of_song[int(places.song[index])] for index in kept], dtype=torch.long)
    return Labelled(2 * x / rolls.layout.scale - 1, y)


def _chosen(y: Tensor, count: int | None) -> Tensor:
    """Return `count` random indices of each class, or all if there are fewer; None means all of all."""
    order = torch.randperm(len(y))
    if count is None:
        return order
    return torch.cat([order[y[order] == label][:count] for label in y.unique()])


def _states(encoder: RecurrentEncoder, x: Tensor) -> Tensor:
    """Return the encoder's last state of each window, [M, hidden]."""
    parts = [encoder.last_states(part)[:, 0] for part in x.split(500)]
    return torch.cat(parts) if parts else x.new_zeros(0, encoder.network.hidden_size)


def _trained(classifier: Classifier, given: Labelled, test: Labelled, steps: int) -> float:
    """Train a classifier and return its accuracy on the test windows."""
    optimizer = torch.optim.Adam(classifier.parameters(), LEARNING_RATE)
    for _ in range(steps):
        picked = torch.randperm(len(given.y))[:BATCH]
        optimizer.zero_grad()
        F.cross_entropy(classifier(given.x[picked]), given.y[picked]).backward()
        nn.utils.clip_grad_norm_(classifier.parameters(), 1.0)
        optimizer.step()
    with torch.no_grad():
        found = torch.cat([classifier(part).argmax(1) for part in test.x.split(500)])
    return float((found == test.y).float().mean())


def _linear(x: Tensor, y: Tensor, test_x: Tensor, test_y: Tensor) -> float:
    """Return the accuracy of a logistic regression on standardised features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x.numpy(), y.numpy())
    return float(fitted.score(test_x.numpy(), test_y.numpy()))


def _report(found: list[Result], chance: float, folder: str, out: Path) -> Path:
    """Write the results as CSV and as a page with a figure, and return the page's path."""
    write_csv(out / "finetune.csv", [asdict(result) for result in found])
    counts = list(dict.fromkeys(result.labels for result in found))
    by = {
        (method, count): [result.accuracy for result in found if (result.method, result.labels) == (method, count)]
        for method in METHODS
        for count in counts
    }
    rows: list[list[Cell]] = [
        [_name(count), *(f"{mean(own):.3f} ± {_spread(own):.3f}" for own in (by[method, count] for method in METHODS))]
        for count in counts
    ]
    colours = dict(zip(METHODS, HUES, strict=False))
    drawing, axes = chart("Accuracy on test windows", [(name, colours[name]) for name in METHODS], alone=True)
    places = np.arange(len(counts))
    for method in METHODS:
        means, spreads = np.array([(mean(by[method, count]), _spread(by[method, count])) for count in counts]).T
        axes.errorbar(places, means, spreads, color=colours[method], marker="o", markersize=4, linewidth=1.8)
    axes.set_xticks(places, [_name(count) for count in counts])
    axes.set(ylim=padded(0.0, 1.0))
    figure = Figure("By the number of labels, with standard deviations over seeds.", to_svg(drawing))
    with whole_file(out / "finetune.svg") as aside:
        aside.write_text(standalone(figure))
    methods = ", ".join(f"{about} ({method})" for method, about in METHODS.items())
    text = (
        f"Classifiers by the number of labelled windows of each class: {methods}. Always naming the most frequent "
        f"class is right for {chance:.1%}."
    )
    table = Table("Means and standard deviations over seeds.", ["labels of each class", *METHODS], rows)
    page = Page(f"Few labels: {folder}", sections=[Section("Accuracy", text, [figure, table])])
    write_page(out / "index.html", page)
    return out / "index.html"


def _name(count: int | None) -> str:
    return "all" if count is None else str(count)


def _spread(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0
