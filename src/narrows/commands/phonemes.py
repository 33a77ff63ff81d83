"""What the codes of a run say about phonemes (van den Oord et al. 2017, section 4.3)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from narrows.atomic import whole_file
from narrows.data import Clips, SoundData, read_phonemes
from narrows.errors import NarrowsError
from narrows.evaluation import PhonemeMap
from narrows.models import Autoencoder, SoundAutoencoder
from narrows.progress import progress
from narrows.training.run import RunFolder

__all__ = ["measure_phonemes"]

UNSEEN = {"validation": "validation clips", "test": "unseen clips", "unheard": "unseen voices"}
"""The splits on which a map of the training clips is tried, and what they are called."""


def measure_phonemes(run: RunFolder, model: Autoencoder, data: SoundData, table: Path) -> dict[str, dict[str, float]]:
    """Learn which phoneme each code stands for, and write it, with the figures on other clips, to `phonemes.json`.

    Args:
        run: the run of the model.
        model: whose codes.
        data: what it was trained on, and what it was not.
        table: the phonemes of the clips; see `narrows.data.read_phonemes`.

    Returns:
        the figures of `PhonemeMap.measure` for each split that has clips.
    """
    if not isinstance(model, SoundAutoencoder) or not model.discrete:
        raise NarrowsError(f"--phonemes {table}: the model in {run.path} has no codes of sound to read phonemes from")
    parts: dict[str, Clips] = {"train": data.train, **{name: getattr(data, split) for split, name in UNSEEN.items()}}
    parts = {name: part for name, part in parts.items() if len(part)}
    tracks = read_phonemes(table, [name for part in parts.values() for name in part.names])
    track = iter(tracks.tracks)
    frames: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    with progress("phonemes", sum(map(len, parts.values())), "clips") as meter:
        for name, part in parts.items():
            codes, phonemes = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
            for index in range(len(part)):
                meter.advance()
                own = next(track)
                if own is not None:
                    codes.append(model.encode(part.clip(index).view(1, 1, -1))[0].numpy())
                    phonemes.append(own.frames(len(codes[-1]), model.hop, model.sample_rate))
            frames[name] = np.concatenate(codes), np.concatenate(phonemes)
    mapped = PhonemeMap.learn(*frames.pop("train"), model.codes.codebook_size, len(tracks.phonemes))
    figures = {name: mapped.measure(*found) for name, found in frames.items() if len(found[0])}
    with whole_file(run.phonemes) as aside:
        found = {"table": str(table), "figures": figures, "phonemes": tracks.phonemes}
        aside.write_text(json.dumps(found | {"counts": mapped.counts.tolist()}))
    return figures
