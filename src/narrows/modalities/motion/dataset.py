"""Motions from a folder of BVH files or tables: read as features, split without overlap, and cut into clips."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from narrows.data.batch import Spec
from narrows.data.dataset import Data
from narrows.data.errors import DataError
from narrows.data.skipped import Skipped, listed
from narrows.data.splits import count_of, digest_of
from narrows.data.stretches import HoldOut, Stretch, cut, empty_splits, split_sequences
from narrows.data.walk import walk
from narrows.modalities.motion.lafan1 import take_of
from narrows.modalities.motion.motions import Motions
from narrows.modalities.motion.reading import read_all
from narrows.modalities.motion.settings import MotionSettings
from narrows.modalities.motion.standardised import Standardised, statistics
from narrows.modalities.motion.tables import SUFFIXES
from narrows.progress import Progress, hidden

__all__ = ["MotionData", "open_motion"]

LEAST = 4
"""Frames that a sequence needs at least: a jerk is a difference of four."""

logger = logging.getLogger(__name__)


class Recording(NamedTuple):
    """A sequence that was read."""

    file: str
    """Its path relative to the source."""
    name: str
    """The same without suffixes."""
    features: np.ndarray
    mark: bytes
    label: str
    """The name of its class."""


@dataclass
class MotionData(Data):
    """A data set of motions.

    Args:
        scale: how files become model inputs.
        subjects: number of subjects in the training split, by names of LAFAN1; 0 if a file has another name.
    """

    train: Motions
    validation: Motions
    test: Motions
    scale: Standardised
    subjects: int

    @property
    def all(self) -> Motions:
        """The clips of all splits, one split after another."""
        return Motions.joined([self.train, self.validation, self.test])


def open_motion(
    settings: MotionSettings, quiet: bool = False, progress: Progress = hidden, spec: Spec | None = None
) -> MotionData:
    """Find, read and split the motions that `settings` describes.

    Args:
        settings: which motions to read, and how.
        quiet: log nothing (for all processes of a run but the first).
        progress: shows the progress.
        spec: specification of a model, whose skeleton or columns must be those of the files and whose classes are
            known; None to find all of these.

    Raises:
        DataError: if there are no motions, or they do not match the settings.
    """
    skipped = Skipped(settings.strict)
    root, files = _find(settings)
    known = None if spec is None else Standardised.of(spec.details)
    form, read, notes = read_all(settings, root, files, known.format if known else None, skipped, progress)
    for name in [name for name, features in read.items() if len(features) < LEAST]:
        skipped.add(str(root / name), f"it has {len(read.pop(name))} frames; a sequence needs {LEAST}")
    if form is None or not read:
        last = f"; the last: {skipped[-1][0]}: {skipped[-1][1]}" if skipped else ""
        raise DataError(f"data.source {settings.source} has no motion that can be read{last}")
    recordings = _recordings(read, root, settings)
    hold_out = _hold_out(settings)
    splits, whole = _split(recordings, hold_out, settings)
    if not splits["train"]:
        raise DataError(f"data.source {settings.source}: no motion is left to train on; hold out less, or give more")
    classes = _classes(recordings, splits["train"]) if spec is None else list(spec.classes)
    if known is None:
        training = np.concatenate([recordings[one.sequence].features[one.begin : one.end] for one in splits["train"]])
        # As a model will read it from its config.json, so that both see the same.
        known = Standardised.of(Standardised(form, *statistics(training)).details)
    motions = {split: _motions(part, recordings, classes, known, settings) for split, part in splits.items()}
    digest = {split: digest_of(_mark(one, recordings) for one in part) for split, part in splits.items()}
    counts = ", ".join(f"{count_of(part)} {split}" for split, part in digest.items())
    kind = "sequences" if settings.hold_out == "sequence" else f"stretches of {len(recordings)} sequences"
    summary = f"{settings.source}: {counts} {kind}; {len(skipped)} files skipped"
    summary += f"; tested on those that match {settings.test_files!r}" if settings.test_files else ""
    if not quiet:
        logger.info(summary)
        notes += listed("sequences too short to hold a part out, used for training only", whole)
        notes += listed("files skipped", [f"{file}: {reason}" for file, reason in skipped])
        notes += empty_splits(splits, hold_out)
        notes += _untrained(recordings, splits["train"], classes)
        for note in notes:
            logger.warning("%s: %s", settings.source, note)
    shape = (known.format.size, settings.window)
    return MotionData(
        **motions,
        spec=Spec(shape, "motion", tuple(classes), None, variable=True, rate=known.format.rate, details=known.details),
        skipped=skipped,
        digest=digest,
        summary=summary,
        scale=known,
        subjects=_subjects([recordings[one.sequence].name for one in splits["train"]]),
    )


def _find(settings: MotionSettings) -> tuple[Path, list[str]]:
    """Return the folder of the source and the files in it: BVH files, or else tables."""
    source = Path(settings.source).expanduser()
    if not source.exists():
        raise DataError(f"data.source {settings.source} does not exist")
    root, files = (source.parent, [source.name]) if source.is_file() else (source, walk(source))
    for suffixes in ((".bvh",), SUFFIXES):
        if found := [file for file in files if file.lower().endswith(suffixes)]:
            return root, found
    raise DataError(f"data.source {settings.source} has no BVH files or tables ({', '.join(('.bvh', *SUFFIXES))})")


def _recordings(read: Mapping[str, np.ndarray], root: Path, settings: MotionSettings) -> list[Recording]:
    """Return the sequences that were read, with their classes."""
    return [
        Recording(
            name,
            _stem(name),
            features,
            hashlib.sha256((root / name).read_bytes()).digest(),
            _label(root / name, name, settings),
        )
        for name, features in read.items()
    ]


def _classes(recordings: Sequence[Recording], training: Sequence[Stretch]) -> list[str]:
    """Return the classes of the training split; none if it has but one."""
    found = sorted({recordings[one.sequence].label for one in training})
    return found if len(found) > 1 else []


def _subjects(names: Sequence[str]) -> int:
    """Return the number of subjects of sequences; 0 if a name does not tell."""
    takes = [take_of(name) for name in names]
    return len({take.subject for take in takes if take}) if all(takes) else 0


def _untrained(recordings: Sequence[Recording], training: Sequence[Stretch], classes: Sequence[str]) -> list[str]:
    """Return notes on the classes that only sequences outside of the training split have."""
    if not classes:
        return []
    others = {one.label for one in recordings} - {recordings[one.sequence].label for one in training}
    found = {one.label for one in recordings}.difference(classes)
    notes = listed("classes that the model is not trained on, whose motions count as of unknown class", sorted(found))
    # Models of older versions have the classes of all splits.
    never = "classes of the model that no training sequence has, so it never learnt them"
    return notes + listed(never, sorted(others - found))


def _stem(file: str) -> str:
    """Return the path of a file without its suffixes."""
    suffix = next(end for end in (".bvh", *SUFFIXES) if file.lower().endswith(end))
    return file[: -len(suffix)]


def _label(path: Path, name: str, settings: MotionSettings) -> str:
    """Return the class of a file, whose path relative to the source is `name`.

    Raises:
        DataError: if `data.label` does not match.
    """
    if not settings.label:
        take = take_of(name)
        return take.action if take else path.resolve().parent.name
    found = re.search(settings.label, name)
    if label := found and (found[1] if found.re.groups else found[0]):
        return label
    raise DataError(f"data.label is {settings.label!r}, which gives no class for {name}")


def _hold_out(settings: MotionSettings) -> HoldOut:
    gap = settings.window if settings.gap is None else settings.gap
    test = 0.0 if settings.test_files else settings.test
    return HoldOut(settings.hold_out, settings.window, gap, settings.validation, test, settings.split_seed)


def _split(
    recordings: Sequence[Recording], hold_out: HoldOut, settings: MotionSettings
) -> tuple[dict[str, list[Stretch]], list[str]]:
    """Return the stretches of each split, and the names of sequences too short to hold a part out.

    Raises:
        DataError: if `data.test_files` is found in no path.
    """
    pattern = settings.test_files
    tested = [index for index, one in enumerate(recordings) if pattern and re.search(pattern, one.file)]
    if pattern and not tested:
        raise DataError(f"data.test_files is {pattern!r}, which matches no file, such as {recordings[0].file}")
    others = [index for index in range(len(recordings)) if index not in tested]
    names = [recordings[index].name for index in others]
    drawn, whole = split_sequences(names, [len(recordings[index].features) for index in others], hold_out)
    splits = {split: [one._replace(sequence=others[one.sequence]) for one in part] for split, part in drawn.items()}
    splits["test"] += [Stretch(index, 0, len(recordings[index].features)) for index in tested]
    return splits, whole


def _motions(
    stretches: Sequence[Stretch],
    recordings: Sequence[Recording],
    classes: list[str],
    scale: Standardised,
    settings: MotionSettings,
) -> Motions:
    clips = [clip for one in stretches for clip in cut(one, settings.clip, LEAST)]
    number = {name: index for index, name in enumerate(classes)}
    features = [recordings[one.sequence].features[one.begin : one.end] for one in clips]
    return Motions(
        values=np.concatenate([np.zeros((0, scale.format.size), np.float32), *features]),
        offsets=np.cumsum([0, *map(len, features)]),
        names=[_name(one, recordings) for one in clips],
        labels=np.array([number.get(recordings[one.sequence].label, -1) for one in clips], np.int64),
        classes=classes,
        window=settings.window,
        sources=np.array([one.sequence for one in clips], np.int64),
        begins=np.array([one.begin for one in clips], np.int64),
        stride=settings.stride or max(1, settings.window // 4),
        scale=scale,
    )


def _name(clip: Stretch, recordings: Sequence[Recording]) -> str:
    """Return the name of a clip, which may become that of a file."""
    name = recordings[clip.sequence].name
    if clip.begin == 0 and clip.end == len(recordings[clip.sequence].features):
        return name
    return f"{name} at frame {clip.begin}"


def _mark(stretch: Stretch, recordings: Sequence[Recording]) -> bytes:
    return b"%b %d %d" % (recordings[stretch.sequence].mark, stretch.begin, stretch.end)
