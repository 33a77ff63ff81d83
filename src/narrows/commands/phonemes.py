"""What the codes of a model say about phonemes (van den Oord et al. 2017, section 4.3)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from narrows.atomic import whole_file
from narrows.data import Clips, SoundData, read_phonemes
from narrows.errors import NarrowsError
from narrows.evaluation import PhonemeMap
from narrows.models import SoundAutoencoder
from narrows.progress import progress

__all__ = ["Phonemes", "measure_phonemes"]

UNSEEN = {"validation": "validation clips", "test": "unseen clips", "unheard": "unseen voices"}
"""The splits on which a map of the training clips is tried, and what they are called."""


@dataclass
class Phonemes:
    """What was found.

    Attributes:
        table: where the phonemes of the clips come from.
        figures: those of `PhonemeMap.measure`, for each split that has clips.
        voices: the accuracy on the clips of each voice, for each split.
        phonemes: their names.
        counts: of training frames, [K][P].
    """

    table: str
    figures: dict[str, dict[str, float]]
    voices: dict[str, dict[str, float]]
    phonemes: list[str]
    counts: list[list[int]]

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        with whole_file(path) as aside:
            aside.write_text(json.dumps(asdict(self)))


def measure_phonemes(model: SoundAutoencoder, data: SoundData, table: Path) -> Phonemes:
    """Learn which phoneme each code stands for from the training clips, and hold the others to it.

    A frame is a code whose middle lies within its clip.

    Args:
        model: whose codes.
        data: what it was trained on, and what it was not.
        table: the phonemes of the clips; see `narrows.data.read_phonemes`.

    Raises:
        NarrowsError: if the model has not one code at a position, or no training clip has phonemes.
    """
    if not model.discrete or model.codes.codebooks > 1:
        raise NarrowsError(f"--phonemes {table}: phonemes are told by one code at a time, and this model has not one")
    parts: dict[str, Clips] = {"train": data.train, **{name: getattr(data, split) for split, name in UNSEEN.items()}}
    parts = {name: part for name, part in parts.items() if len(part)}
    tracks = read_phonemes(table, [name for part in parts.values() for name in part.names])
    track = iter(tracks.tracks)
    device = next(model.parameters()).device
    frames: dict[str, np.ndarray] = {}
    with progress("phonemes", sum(map(len, parts.values())), "clips") as meter:
        for name, part in parts.items():
            found = [np.zeros((3, 0), np.int64)]
            for index in range(len(part)):
                meter.advance()
                own = next(track)
                if own is not None:
                    count = (int(part.lengths[index]) + model.hop // 2) // model.hop
                    codes = model.encode(part.clip(index).to(device).view(1, 1, -1))[0, :count].cpu().numpy()
                    phonemes = own.frames(count, model.hop, model.sample_rate)
                    found.append(np.stack([codes, phonemes, np.full(count, part.speakers[index])]))
            frames[name] = np.concatenate(found, 1)
    codes, phonemes, _ = frames.pop("train")
    if not len(codes):
        raise NarrowsError(f"--phonemes {table}: no training clip has phonemes there, of which the map is learned")
    mapped = PhonemeMap.learn(codes, phonemes, model.codes.codebook_size, len(tracks.phonemes))
    tried = {name: rows for name, rows in frames.items() if rows.shape[1]}
    return Phonemes(
        str(table),
        {name: mapped.measure(rows[0], rows[1]) for name, rows in tried.items()},
        {name: mapped.accuracy_by_voice(rows[0], rows[1], rows[2], data.speakers) for name, rows in tried.items()},
        tracks.phonemes,
        mapped.counts.tolist(),
    )
