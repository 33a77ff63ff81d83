"""The map of a model's latents: a point for every window, in the colour of its song, that plays when it is clicked."""

from __future__ import annotations

import colorsys
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from narrows.data.loader import random_subset
from narrows.modalities.music.latents import WindowLatents, song_accuracy, window_latents
from narrows.modalities.music.midi import Notes
from narrows.modalities.music.player import PianoRolls, Tune, step_seconds
from narrows.modalities.music.report import SEEDED
from narrows.modalities.music.roll import RollLayout, to_levels
from narrows.modalities.music.rolls import Rolls
from narrows.models import Autoencoder
from narrows.report.page import Block, Section

__all__ = ["LatentMap", "MapPoint", "map_sections"]

SHOWN = 600
"""The most windows of training and of held-out music on the map; each carries its notes twice."""
SIZE, MARGIN = 640, 12
"""Side of the map and its margin, in pixels."""
GRID = np.linspace(-1.5, 1.5, 4)
"""Points of each latent dimension that are decoded, in standard deviations of the prior."""
SEED = 0


class MapPoint(NamedTuple):
    """A window on the map."""

    x: float
    y: float
    name: str
    """Its song and time."""
    colour: str
    held_out: bool
    original: Notes
    reconstruction: Notes


@dataclass(frozen=True, eq=False)
class LatentMap(Block):
    """A map of windows; one that is clicked is drawn and played, then its reconstruction.

    Args:
        caption: the caption.
        points: the windows.
        steps: steps of a window.
        step: length of a step in seconds.
        layout: what the values of the rolls mean.
        songs: the songs and their colours.
    """

    caption: str
    points: Sequence[MapPoint]
    steps: int
    step: float
    layout: RollLayout
    songs: Sequence[tuple[str, str]]

    scripts = ("tunes.js", "map.js")

    @property
    def size(self) -> int:
        """Side of the map in pixels."""
        return SIZE

    @property
    def placed(self) -> list[tuple[float, float, MapPoint]]:
        """The points with their places in pixels, on one scale in both directions."""
        places = np.array([[point.x, point.y] for point in self.points])
        low, high = places.min(0), places.max(0)
        scale = (SIZE - 2 * MARGIN) / max(float((high - low).max()), 1e-9)
        at = (places - (low + high) / 2) * [scale, -scale] + SIZE / 2
        return [(round(x, 1), round(y, 1), point) for (x, y), point in zip(at.tolist(), self.points, strict=True)]

    @property
    def notes(self) -> str:
        """The notes of every window and of its reconstruction as JSON: [start, length, pitch, velocity] each."""
        both = [[_listed(point.original), _listed(point.reconstruction)] for point in self.points]
        return json.dumps(both, separators=(",", ":"))


def map_sections(model: Autoencoder, train: Rolls, held_out: Rolls, layout: RollLayout) -> Iterator[Section]:
    """Yield the section with the map of training and held-out windows and, for two dimensions, decoded points of it."""
    known, asked = window_latents(model, train), window_latents(model, held_out)
    if not len(known.z):
        return
    channels, clock = known.z.shape[1], layout.clock(model.spec.rate)
    picked = [random_subset(len(part.z), SHOWN // 2) for part in (known, asked)]
    z = np.concatenate([part.z[chosen] for part, chosen in zip((known, asked), picked, strict=True)])
    parts = zip((known, asked), (train, held_out), picked, (False, True), strict=True)
    colours = _colours(len(model.classes))
    windows = [window for part in parts for window in _windows(model, *part)]
    points = [
        MapPoint(x, y, f"{model.classes[song]}, {_time(begin, step_seconds(clock))}", colours[song], held, *notes)
        for (x, y), (song, begin, held, notes) in zip(_flat(z).tolist(), windows, strict=True)
    ]
    how = "the latent plane" if channels == 2 else f"t-SNE of the {channels} latent dimensions"
    text = (
        f"Every point is a window at its mean latent, in the colour of its song: {how}. Rings are windows held out "
        "from training. Point at one for its song and time; click it to see and hear it, and then its reconstruction."
    )
    if accuracy := song_accuracy(known, asked):
        right, chance = accuracy["song_accuracy"], accuracy["song_accuracy_by_chance"]
        text += (
            " The nearest training window, in the latent space itself, is of the same song for "
            f"{right:.0%} of the held-out windows; by chance {chance:.0%}."
        )
    used = sorted({song for song, *_ in windows})
    legend = [(model.classes[song], colours[song]) for song in used]
    caption = f"{len(points)} windows of {len(used)} songs."
    yield Section("Map", text, [LatentMap(caption, points, model.hop, step_seconds(clock), layout, legend)])
    if channels == 2:
        yield _plane(model, layout)


@torch.no_grad()
def _plane(model: Autoencoder, layout: RollLayout) -> Section:
    """Return the section with decoded points of a latent plane."""
    device = next(model.parameters()).device
    rows = [[(x, y) for x in GRID.tolist()] for y in GRID[::-1].tolist()]
    z = torch.tensor([point for row in rows for point in row], device=device).unsqueeze(2)
    made = iter(model.decode_latents(z.float(), sampling=SEEDED))
    tunes = [[Tune(f"({x:g}, {y:g})", to_levels(next(made), layout)) for x, y in row] for row in rows]
    caption = "Points of the latent plane, decoded."
    return Section("The plane, decoded", blocks=[PianoRolls(caption, tunes, layout, layout.clock(model.spec.rate))])


@torch.no_grad()
def _windows(
    model: Autoencoder, latents: WindowLatents, rolls: Rolls, picked: np.ndarray, held_out: bool
) -> Iterator[tuple[int, int, bool, tuple[Notes, Notes]]]:
    """Yield the song, the first step in it, `held_out`, and the notes of some windows and their reconstructions."""
    layout, device = RollLayout.of(model.spec.details), next(model.parameters()).device
    for index in picked.tolist():
        stretch, start = int(latents.stretch[index]), int(latents.start[index])
        window = rolls.stored(stretch)[start : start + model.hop]
        z = torch.from_numpy(latents.z[index]).to(device).view(1, -1, 1)
        made = to_levels(model.decode_latents(z, sampling=SEEDED)[0], layout)
        begin = int(rolls.begins[stretch]) + start
        yield int(latents.song[index]), begin, held_out, (layout.to_notes(window), layout.to_notes(made))


def _flat(z: np.ndarray) -> np.ndarray:
    """Return latents in two dimensions, [M, 2]."""
    if z.shape[1] == 2 or len(z) < 4 or not np.ptp(z, axis=0).any():
        return z[:, :2] if z.shape[1] > 1 else np.repeat(z, 2, 1)
    if z.shape[1] == 1:
        return np.concatenate([z, np.zeros_like(z)], 1)
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(z) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=SEED).fit_transform(z)


def _colours(count: int) -> list[str]:
    """Return a colour for each song; the first ones differ most."""
    hues = [(0.6 + index * 0.618034) % 1 for index in range(count)]
    rgb = [colorsys.hls_to_rgb(hue, (0.45, 0.6, 0.35)[index % 3], 0.75) for index, hue in enumerate(hues)]
    return ["#" + "".join(f"{round(255 * part):02x}" for part in parts) for parts in rgb]


def _listed(notes: Notes) -> list[list[int]]:
    return np.stack([notes.start, notes.end - notes.start, notes.pitch, notes.velocity], 1).tolist()


def _time(step: int, seconds: float) -> str:
    minutes, rest = divmod(int(step * seconds), 60)
    return f"{minutes}:{rest:02}"
