"""Reconstructions of music: how many notes are right, and what the report shows of them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from narrows.data import Examples
from narrows.modalities.music.player import PianoRolls, Tune
from narrows.modalities.music.roll import RollLayout, to_levels
from narrows.modalities.music.rolls import Rolls
from narrows.models import Autoencoder
from narrows.report.page import Section
from narrows.sampling import Sampling

__all__ = ["SEEDED", "note_figures", "reconstructions"]

SHOWN, LONGEST = 6, 400
"""Number of pieces in the report, and the most steps of each."""
SEEDED = Sampling(seed=0)
"""How decoders that read the data draw them here."""


def note_figures(x: Tensor, reconstruction: Tensor) -> dict[str, Tensor]:
    """Return `note_precision`, `note_recall` and `note_f1` of reconstructions [B, C, T] by step and channel, [B] each.

    A channel is on where its value is at least one half. Of nothing asked and nothing given, everything is right: 1.
    """
    known, found = x >= 0.5, reconstruction >= 0.5
    right, asked, given = (part.flatten(1).sum(1).float() for part in (known & found, known, found))
    one = torch.ones_like(right)
    return {
        "note_precision": torch.where(given > 0, right / given.clamp(min=1), (asked == 0).float()),
        "note_recall": torch.where(asked > 0, right / asked.clamp(min=1), one),
        "note_f1": torch.where(asked + given > 0, 2 * right / (asked + given).clamp(min=1), one),
    }


@torch.no_grad()
def reconstructions(model: Autoencoder, examples: Examples) -> Iterator[Section]:
    """Yield the section with reconstructions of pieces beside a control: the latents of other windows, decoded."""
    assert isinstance(examples, Rolls)
    layout, rows = RollLayout.of(model.spec.details), []
    pieces = [examples[index] for index in range(len(examples))]
    modes = [model.posterior(x.unsqueeze(0)).mode for x in pieces]
    others = _exchanged(modes)
    figures: list[list[Tensor]] = [[], []]
    for index, (x, own, other) in enumerate(zip(pieces, modes, others, strict=True)):
        made = [model.decode_latents(z, sampling=SEEDED)[0, :, : x.shape[1]] for z in (own, other)]
        for column, y in zip(figures, made, strict=True):
            column.append(note_figures(x.unsqueeze(0), y.unsqueeze(0))["note_f1"])
        if index < SHOWN:
            names = (examples.name(index), "its reconstruction", "latents of other windows, decoded")
            rows.append(
                [Tune(name, to_levels(y[:, :LONGEST], layout)) for name, y in zip(names, (x, *made), strict=True)]
            )
    kept, mixed = (float(torch.cat(column).mean()) for column in figures)
    text = (
        "Pieces of the validation split, which the model was not trained on, and what the decoder makes of their "
        "latents; as a control, the latents of other windows, decoded, which shows how much the latents say. The mean "
        f"F1 of the notes is {kept:.3f}, and {mixed:.3f} with the latents of other windows. Click one to hear it."
    )
    block = PianoRolls(
        f"At most {LONGEST} steps of each; orange marks the start of a note.",
        rows,
        layout,
        layout.clock(model.spec.rate),
    )
    yield Section("Reconstructions", text, [block])


def _exchanged(modes: list[Tensor]) -> list[Tensor]:
    """Return latents [1, channels, N] of the same shapes, in which every window has those of the window before it."""
    together = torch.cat(modes, 2).roll(1, 2)
    return list(together.split([z.shape[2] for z in modes], 2))
