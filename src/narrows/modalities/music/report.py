"""Reconstructions of music: how many notes are right, and how much of them the latents say."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from narrows.bottlenecks import Posterior
from narrows.data import Examples
from narrows.modalities.music.player import PianoRolls, Tune
from narrows.modalities.music.roll import RollLayout, to_levels
from narrows.modalities.music.rolls import Rolls
from narrows.models import Autoencoder
from narrows.report.page import Cell, Section, Table
from narrows.sampling import Sampling

__all__ = ["SEEDED", "note_figures", "reconstructions"]

SHOWN, LONGEST = 6, 400
"""Number of pieces in the report, and the most steps of each."""
ACTIVE = 0.01
"""Variance of the mean latents above which a dimension is active (Burda et al. 2016)."""
SEEDED = Sampling(seed=0)
"""How decoders that read the data draw them here."""


def note_figures(x: Tensor, reconstruction: Tensor, layout: RollLayout) -> dict[str, Tensor]:
    """Return `note_precision`, `note_recall` and `note_f1` of reconstructions [B, C, T] by step and channel, [B] each.

    A channel is on where its value is above 0 in x, and where `to_levels` gives one of the reconstruction. Of nothing
    asked and nothing given, everything is right: 1.
    """
    made = np.stack([to_levels(part, layout).T for part in reconstruction])
    known, found = x > 0, torch.from_numpy(made).to(x.device) > 0
    right, asked, given = (part.flatten(1).sum(1).float() for part in (known & found, known, found))
    one = torch.ones_like(right)
    return {
        "note_precision": torch.where(given > 0, right / given.clamp(min=1), (asked == 0).float()),
        "note_recall": torch.where(asked > 0, right / asked.clamp(min=1), one),
        "note_f1": torch.where(asked + given > 0, 2 * right / (asked + given).clamp(min=1), one),
    }


@torch.no_grad()
def reconstructions(model: Autoencoder, examples: Examples) -> Iterator[Section]:
    """Yield the section with reconstructions of pieces, and what the decoder makes without their latents."""
    assert isinstance(examples, Rolls)
    layout, rows = examples.layout, []
    pieces = [examples[index] for index in range(len(examples))]
    posteriors = [model.posterior(x.unsqueeze(0)) for x in pieces]
    own = [posterior.mode for posterior in posteriors]
    latents = {
        "of the window": own,
        "of the window before": _exchanged(own),
        "zero for every window": [torch.zeros_like(z) for z in own],
    }
    figures: dict[str, list[dict[str, Tensor]]] = {name: [] for name in latents}
    for index, x in enumerate(pieces):
        made = [model.decode_latents(given[index], sampling=SEEDED)[0, :, : x.shape[1]] for given in latents.values()]
        for name, y in zip(latents, made, strict=True):
            figures[name].append(note_figures(x.unsqueeze(0), y.unsqueeze(0), layout))
        if index < SHOWN:
            names = (examples.name(index), "its reconstruction", "from the latents of the windows before")
            shown = zip(names, (x, *made[:2]), strict=True)
            rows.append([Tune(name, to_levels(y[:, :LONGEST], layout)) for name, y in shown])
    text = (
        "Pieces of the validation split, which the model was not trained on, and what the decoder makes of their "
        f"latents. {_told(posteriors, model.discrete)} The table compares the notes with those that the decoder makes "
        "of the latents of another window, and of none; the difference is what the latents say. Click a piece to hear "
        "it."
    )
    block = PianoRolls(
        f"At most {LONGEST} steps of each; orange marks the start of a note.",
        rows,
        layout,
        layout.clock(model.spec.rate),
    )
    yield Section("Reconstructions", text, [_table(figures), block])


def _table(figures: dict[str, list[dict[str, Tensor]]]) -> Table:
    """Return the means of the figures of pieces, a row for each kind of latents."""
    rows: list[list[Cell]] = []
    for name, found in figures.items():
        means = (torch.cat([each[figure] for each in found]).mean() for figure in found[0])
        rows.append([name, *(f"{float(mean):.3f}" for mean in means)])
    columns = [figure.removeprefix("note_") for figure in next(iter(figures.values()))[0]]
    return Table("Notes by step and pitch, means over the pieces.", ["latents", *columns], rows)


def _told(posteriors: list[Posterior], discrete: bool) -> str:
    """Return in words how much the latents of these pieces say."""
    windows = sum(posterior.mode.shape[2] for posterior in posteriors)
    nats = sum(float(posterior.draw().rate.sum()) for posterior in posteriors)
    words = f"A window's latents have {nats / windows / math.log(2):.1f} bits"
    if discrete:
        return f"{words}."
    modes = torch.cat([posterior.mode for posterior in posteriors], 2)[0]
    active = int((modes.var(1, correction=0) > ACTIVE).sum())
    return f"{words}; {active} of {len(modes)} dimensions are active, with a variance of their mean above {ACTIVE:g}."


def _exchanged(modes: list[Tensor]) -> list[Tensor]:
    """Return latents [1, channels, N] of the same shapes, in which every window has those of the window before it."""
    together = torch.cat(modes, 2).roll(1, 2)
    return list(together.split([z.shape[2] for z in modes], 2))
