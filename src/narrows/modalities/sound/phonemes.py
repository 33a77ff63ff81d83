"""How well the codes of a model predict phonemes (van den Oord et al. 2017, section 4.3).

The phoneme of each code is always learned from the run's own training clips, and the map is saved in the run folder as
`phonemes.json`. Clips of any other source are measured with that map.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from narrows.atomic import whole_file
from narrows.errors import NarrowsError
from narrows.files import read_json
from narrows.modalities.sound.clips import Clips
from narrows.modalities.sound.dataset import SoundData
from narrows.modalities.sound.phoneme_map import PhonemeMap
from narrows.modalities.sound.phoneme_tracks import read_phonemes
from narrows.models import Autoencoder
from narrows.pretrained import fingerprint
from narrows.progress import Progress, hidden
from narrows.training.run import RunFolder

__all__ = ["Phonemes", "learn_phonemes", "measure_foreign_phonemes", "phonemes_file"]

TRAINING = "training clips"
UNSEEN = {"validation": "validation clips", "test": "unseen clips", "unheard": "unseen voices"}
"""The splits on which the map of the training clips is measured, with their names in tables."""

FOREIGN = "clips of another source"


@dataclass
class Phonemes:
    """A map from codes to phonemes, with its figures.

    Attributes:
        table: the table or folder that the phonemes of the clips come from.
        model: the fingerprint of the model.
        training: the numbers of `clips` and `frames` that the map was learned from.
        figures: for each split, those of `PhonemeMap.measure` and `clips`, the number of clips with phonemes.
        voices: for each split, the accuracy on the clips of each voice.
        phonemes: the names of the phonemes.
        counts: `PhonemeMap.counts` of the training frames, [K][P].
    """

    table: str
    model: str
    training: dict[str, int]
    figures: dict[str, dict[str, float]]
    voices: dict[str, dict[str, float]]
    phonemes: list[str]
    counts: list[list[int]]

    @property
    def named_figures(self) -> dict[str, float]:
        """All figures by name and the clips they were measured on, such as "accuracy, unseen clips"."""
        parts: dict[str, Mapping[str, float]] = {**self.figures, TRAINING: self.training}
        return {f"{name}, {part}": value for part, row in parts.items() for name, value in row.items()}

    def write(self, path: Path) -> None:
        """Write the map and its figures as JSON."""
        with whole_file(path) as aside:
            aside.write_text(json.dumps(asdict(self)))


@dataclass(frozen=True)
class _Frames:
    """The codes, phonemes and voices of the frames of the `clips` clips that have phonemes, int64 [n] each."""

    codes: np.ndarray
    phonemes: np.ndarray
    voices: np.ndarray
    clips: int


def phonemes_file(run: RunFolder) -> Path:
    """Return the path of the file that keeps the map of `learn_phonemes`."""
    return run.outputs / "phonemes.json"


def learn_phonemes(
    model: Autoencoder, folder: str, data: SoundData, table: Path, progress: Progress = hidden
) -> Phonemes:
    """Learn the phoneme of each code from the run's own training clips, and measure the map on the other splits.

    A frame is a code whose centre lies within its clip.

    Args:
        model: the model.
        folder: the run folder that it was loaded from.
        data: the run's own data.
        table: the phonemes of the clips; see `read_phonemes`.
        progress: shows how far the work is.

    Raises:
        NarrowsError: if the model does not have one code per position, or no training clip has phonemes.
    """
    _require_one_code(model, table)
    parts: dict[str, Clips] = {TRAINING: data.train, **{name: getattr(data, split) for split, name in UNSEEN.items()}}
    names, frames = _frames(model, {name: part for name, part in parts.items() if len(part)}, table, progress)
    training = frames.pop(TRAINING)
    if not training.clips:
        raise NarrowsError(
            f"--phonemes {table}: it has no phonemes for the training clips, from which the map is learned"
        )
    mapped = PhonemeMap.learn(training.codes, training.phonemes, model.codes.codebook_size, len(names))
    tried = {name: part for name, part in frames.items() if part.clips}
    return Phonemes(
        str(table),
        fingerprint(folder),
        {"clips": training.clips, "frames": len(training.codes)},
        {name: {**mapped.measure(part.codes, part.phonemes), "clips": part.clips} for name, part in tried.items()},
        {name: _by_voice(mapped, part, data.speakers) for name, part in tried.items()},
        names,
        mapped.counts.tolist(),
    )


def measure_foreign_phonemes(
    model: Autoencoder, folder: str, clips: Clips, table: Path, progress: Progress = hidden
) -> Phonemes:
    """Measure clips of another source with the map learned from the run's own training clips.

    Phonemes are matched by name. Frames with a phoneme that the training clips do not have count as errors; their share
    is the figure `unknown`.

    Args:
        model: the model.
        folder: the run folder that it was loaded from.
        clips: the clips to measure.
        table: the phonemes of these clips; see `read_phonemes`.
        progress: shows how far the work is.

    Returns:
        the run's own map, with the figures of these clips alone.

    Raises:
        NarrowsError: if the run has no map, or that of an earlier model; or as for `learn_phonemes`.
    """
    _require_one_code(model, table)
    own = _read_own(folder)
    names, frames = _frames(model, {FOREIGN: clips}, table, progress)
    part = frames[FOREIGN]
    if not part.clips:
        raise NarrowsError(f"--phonemes {table}: it has no phonemes for any of the {len(clips)} clips")
    known = {name: number for number, name in enumerate(own.phonemes)}
    unknown = [name for name in names if name not in known]
    places = {**known, **{name: len(known) + number for number, name in enumerate(unknown)}}
    phonemes = np.array([places[name] for name in names])[part.phonemes]
    part = replace(part, phonemes=phonemes)
    mapped = PhonemeMap(np.pad(np.array(own.counts), ((0, 0), (0, len(unknown)))))
    figures = {
        **mapped.measure(part.codes, phonemes),
        "unknown": float((mapped.counts.sum(0)[phonemes] == 0).mean()),
        "clips": part.clips,
    }
    by_voice = _by_voice(mapped, part, clips.classes)
    return replace(own, table=str(table), figures={FOREIGN: figures}, voices={FOREIGN: by_voice})


def _read_own(folder: str) -> Phonemes:
    """Return the map that `learn_phonemes` saved in a run folder.

    Raises:
        NarrowsError: if there is none, or it is from an earlier version or an earlier model.
    """
    path = phonemes_file(RunFolder(folder))
    way_out = f"run `narrows evaluate {folder} --phonemes TABLE` on the run's own data first"
    if not path.exists():
        raise NarrowsError(
            f"{folder} has no {path.name}: the phoneme of each code is learned from the run's own training clips; "
            f"{way_out}"
        )
    try:
        own = Phonemes(**read_json(path))
        if np.array(own.counts, np.int64).shape[1:] != (len(own.phonemes),):
            raise ValueError("its counts do not match its phonemes")
    except (ValueError, TypeError) as error:
        raise NarrowsError(f"{path} is damaged, or from an earlier version ({error}); {way_out}") from error
    if own.model != fingerprint(folder):
        raise NarrowsError(f"{path} is from an earlier model with other codes; {way_out}")
    return own


def _require_one_code(model: Autoencoder, table: Path) -> None:
    if not model.discrete or model.codes.codebooks > 1:
        raise NarrowsError(
            f"--phonemes {table}: phonemes are predicted from one code per position, which this model does not have"
        )


def _frames(
    model: Autoencoder, parts: Mapping[str, Clips], table: Path, progress: Progress
) -> tuple[list[str], dict[str, _Frames]]:
    """Return the names of the phonemes, and the frames of each of `parts`."""
    tracks = read_phonemes(table, [name for part in parts.values() for name in part.names])
    track = iter(tracks.tracks)
    device = next(model.parameters()).device
    frames: dict[str, _Frames] = {}
    with progress("phonemes", sum(map(len, parts.values())), "clips") as meter:
        for name, part in parts.items():
            found = []
            for index in range(len(part)):
                meter.advance()
                own = next(track)
                if own is not None:
                    count = (int(part.lengths[index]) + model.hop // 2) // model.hop
                    codes = model.encode(part.clip(index).to(device).view(1, 1, -1))[0, :count].cpu().numpy()
                    phonemes = own.frames(count, model.hop, int(model.spec.rate or 0))
                    found.append(np.stack([codes, phonemes, np.full(count, part.labels[index])]))
            codes, phonemes, voices = np.concatenate([np.zeros((3, 0), np.int64), *found], 1)
            frames[name] = _Frames(codes, phonemes, voices, len(found))
    return tracks.phonemes, frames


def _by_voice(mapped: PhonemeMap, part: _Frames, names: list[str]) -> dict[str, float]:
    return mapped.accuracy_by_voice(part.codes, part.phonemes, part.voices, names)
