"""Videos from files: read as frames, cut into shots, split without overlap, and cut into clips."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np

from narrows.data.batch import Spec
from narrows.data.dataset import Data
from narrows.data.errors import DataError
from narrows.data.skipped import Skipped, listed
from narrows.data.splits import SPLITS, count_of, digest_of
from narrows.data.stretches import HoldOut, Stretch, cut, empty_splits, split_sequences
from narrows.modalities.video.actions import Actions, find_actions
from narrows.modalities.video.clips import VideoClips
from narrows.modalities.video.cuts import find_cuts
from narrows.modalities.video.mirrored import swapped_features, with_mirrored
from narrows.modalities.video.reading import EXTENSIONS, Found, find_sources, read_all
from narrows.modalities.video.recording import Fit, Memory, Recording
from narrows.modalities.video.settings import VideoSettings
from narrows.modalities.video.stills import STILLS
from narrows.progress import Progress, hidden

__all__ = ["VideoData", "open_video"]

logger = logging.getLogger(__name__)


@dataclass
class VideoData(Data):
    """A data set of videos.

    Args:
        actions: the actions between frames.
        permutation: the features of the actions in mirrored clips, on which models are trained, too; None for none. See
            `with_mirrored`.
    """

    train: VideoClips
    validation: VideoClips
    test: VideoClips
    actions: Actions
    permutation: np.ndarray | None

    @property
    def all(self) -> VideoClips:
        """The clips of all splits, one split after another."""
        return VideoClips.joined([self.train, self.validation, self.test])

    @property
    def augmented(self) -> VideoClips:
        """The training clips, and with `data.mirror` the same mirrored."""
        return self.train if self.permutation is None else with_mirrored(self.train, self.permutation)


class Shot(NamedTuple):
    """Frames of a recording without a cut."""

    recording: int
    begin: int
    end: int


def open_video(
    settings: VideoSettings, quiet: bool = False, progress: Progress = hidden, spec: Spec | None = None
) -> VideoData:
    """Find, read and split the videos that `settings` describes.

    Args:
        settings: which videos to read, and how.
        quiet: log nothing (for all processes of a run but the first).
        progress: shows the progress.
        spec: specification of a model, whose size, rate and actions the videos must have or are brought to; None to
            use the settings.

    Raises:
        DataError: if there are no videos, or they do not match the settings.
    """
    skipped = Skipped(settings.strict)
    size = (settings.size, settings.size) if spec is None else spec.shape[2:]
    rate = settings.rate if spec is None else spec.rate or settings.rate
    sources = find_sources(settings.source)
    if not sources:
        kinds = ", ".join((*EXTENSIONS, *STILLS))
        raise DataError(f"data.source {settings.source} has no videos or frames ({kinds})")
    found = read_all(sources, Fit(Memory(settings.memory_limit_gb), *size), rate, settings.window, skipped, progress)
    actions = _keep_usable(found, settings, Actions.of(spec.details) if spec else None, skipped)
    if not found.recordings:
        name, reason = [*found.short, *skipped][-1]
        raise DataError(f"data.source {settings.source} has no video that can be used; the last: {name}: {reason}")
    shots, short = _shots(found.recordings, settings)
    splits, notes = _split(found, shots, settings)
    by_name = _held_out_by_name(found)
    if not splits["train"] and spec is None:
        why = f", and by their names these are not for training: {by_name}: rename some" if by_name else ""
        raise DataError(
            f"data.source {settings.source}: no video is left to train on; hold out less, or give more{why}"
        )
    if spec is None and actions.size:
        actions = actions.standardised(_vectors(splits["train"], shots, found.recordings))
    clips = {split: _clips(part, shots, found.recordings, actions, settings) for split, part in splits.items()}
    permutation = swapped_features(actions, settings.mirrored_pairs) if settings.mirror else None
    digest = {split: digest_of(_mark(one, shots, found) for one in part) for split, part in splits.items()}
    counts = ", ".join(f"{count_of(part)} {split}" for split, part in digest.items())
    summary = f"{settings.source}: {counts} stretches without a cut; {len(skipped)} files skipped"
    summary += f"; held out by name: {by_name}" if by_name else ""
    if not quiet:
        logger.info(summary)
        notes += listed("left out", [f"{name}: {reason}" for name, reason in [*found.short, *short]])
        notes += listed("files skipped", [f"{file}: {reason}" for file, reason in skipped])
        if permutation is not None:
            same = [name for index, name in enumerate(actions.names) if permutation[index] == index]
            notes += listed("actions that stay the same in mirrored clips", same)
        for note in notes:
            logger.warning("%s: %s", settings.source, note)
    shape = (3, settings.window, *found.recordings[0].frames.shape[1:3])
    return VideoData(
        **clips,
        spec=Spec(shape, "video", variable=True, rate=found.rate, channels=actions.channels, details=actions.details),
        skipped=skipped,
        digest=digest,
        summary=summary,
        actions=actions,
        permutation=permutation,
    )


def _held_out_by_name(found: Found) -> str:
    """Return the names at the top of the source that are those of a validation or test split, with commas between."""
    held = [one.name for one, split in zip(found.recordings, found.splits, strict=True) if split not in (None, "train")]
    return ", ".join(dict.fromkeys(PurePosixPath(name).parts[0].partition(" episode ")[0] for name in held))


def _keep_usable(found: Found, settings: VideoSettings, known: Actions | None, skipped: Skipped) -> Actions:
    """Leave out recordings with other actions, and return the actions of the others."""
    # Those held out by name come last: the others say which actions there are.
    order = np.argsort([split not in (None, "train") for split in found.splits], kind="stable")
    actions = known or find_actions([found.recordings[index] for index in order], settings.action_names)
    kept = []
    for index, one in enumerate(found.recordings):
        try:
            found.recordings[index] = actions.matched(one, settings.action_names)
            kept.append(index)
        except DataError as error:
            skipped.add(one.name, str(error))
    found.recordings = [found.recordings[index] for index in kept]
    found.splits = [found.splits[index] for index in kept]
    found.digests = [found.digests[index] for index in kept]
    return actions


def _shots(recordings: Sequence[Recording], settings: VideoSettings) -> tuple[list[Shot], list[tuple[str, str]]]:
    """Return the shots of at least a window, and the names of the others with the reason."""
    shots, short = [], []
    for index, one in enumerate(recordings):
        cuts = find_cuts(one.frames, settings.cut) if settings.cut is not None and one.may_cut else []
        for begin, end in zip([0, *cuts], [*cuts, len(one.frames)], strict=True):
            if end - begin < settings.window:
                reason = f"the shot has {end - begin} frames, but data.window is {settings.window}"
                short.append((f"{one.name} at frame {begin}", reason))
            else:
                shots.append(Shot(index, begin, end))
    return shots, short


def _split(found: Found, shots: Sequence[Shot], settings: VideoSettings) -> tuple[dict[str, list[Stretch]], list[str]]:
    """Return the stretches of each split, whose `sequence` is a shot, and notes on what could not be held out.

    Splits that names say are kept; the others are held out of what is for training.
    """
    splits: dict[str, list[Stretch]] = {split: [] for split in SPLITS}
    for index, shot in enumerate(shots):
        splits[found.splits[shot.recording] or "train"].append(Stretch(index, 0, shot.end - shot.begin))
    pool, splits["train"] = splits["train"], []
    shares = {split: 0.0 if splits[split] else getattr(settings, split) for split in ("validation", "test")}
    gap = settings.window if settings.gap is None else settings.gap
    hold_out = HoldOut(settings.hold_out, settings.window, gap, **shares, seed=settings.split_seed)
    drawn, short = _drawn(pool, found.recordings, shots, hold_out)
    for split, part in drawn.items():
        splits[split] += part
    return splits, [
        *listed("shots too short to hold a part out, used for training only", short),
        *empty_splits(drawn, hold_out),
    ]


def _drawn(
    pool: Sequence[Stretch], recordings: Sequence[Recording], shots: Sequence[Shot], hold_out: HoldOut
) -> tuple[dict[str, list[Stretch]], list[str]]:
    """Return the splits of shots: of whole recordings with their shots, or of a stretch of every shot."""
    if hold_out.by == "time":
        names = [_shot_name(shots[one.sequence], recordings) for one in pool]
        drawn, short = split_sequences(names, [one.end for one in pool], hold_out)
        return {
            split: [Stretch(pool[one.sequence].sequence, one.begin, one.end) for one in part]
            for split, part in drawn.items()
        }, short
    owners = sorted({shots[one.sequence].recording for one in pool})
    drawn, short = split_sequences(
        [recordings[owner].name for owner in owners], [len(recordings[owner].frames) for owner in owners], hold_out
    )
    chosen = {split: {owners[one.sequence] for one in part} for split, part in drawn.items()}
    return {
        split: [one for one in pool if shots[one.sequence].recording in own] for split, own in chosen.items()
    }, short


def _clips(
    stretches: Sequence[Stretch],
    shots: Sequence[Shot],
    recordings: Sequence[Recording],
    actions: Actions,
    settings: VideoSettings,
) -> VideoClips:
    least = max(settings.window, (settings.clip or 0) // 2)
    clips = [clip for one in stretches for clip in cut(one, settings.clip, least)]
    frames, features, names = [], [], []
    for clip in clips:
        shot = shots[clip.sequence]
        one = recordings[shot.recording]
        begin, end = shot.begin + clip.begin, shot.begin + clip.end
        frames.append(one.frames[begin:end])
        features.append(actions.features(one.actions, len(one.frames))[begin:end])
        names.append(one.name if end - begin == len(one.frames) else f"{one.name} at frame {begin}")
    shape = recordings[0].frames.shape[1:]
    return VideoClips(
        values=np.concatenate([np.zeros((0, *shape), np.uint8), *frames]),
        offsets=np.cumsum([0, *map(len, frames)]),
        names=names,
        labels=np.full(len(clips), -1, np.int64),
        classes=[],
        window=settings.window,
        sources=np.array([clip.sequence for clip in clips], np.int64),
        begins=np.array([clip.begin for clip in clips], np.int64),
        stride=settings.stride or max(1, settings.window // 4),
        features=np.concatenate([np.zeros((0, actions.channels), np.float32), *features]),
    )


def _vectors(stretches: Sequence[Stretch], shots: Sequence[Shot], recordings: Sequence[Recording]) -> np.ndarray:
    """Return the vectors of actions that are taken at the frames of stretches, [N, D]."""
    found = []
    for one in stretches:
        shot = shots[one.sequence]
        actions = recordings[shot.recording].actions
        assert actions is not None
        found.append(actions[shot.begin + one.begin : shot.begin + one.end])
    return np.concatenate(found)


def _shot_name(shot: Shot, recordings: Sequence[Recording]) -> str:
    """Return the name of the recording, with the first frame of the shot if that is not its first."""
    name = recordings[shot.recording].name
    return f"{name} at frame {shot.begin}" if shot.begin else name


def _mark(stretch: Stretch, shots: Sequence[Shot], found: Found) -> bytes:
    shot = shots[stretch.sequence]
    name = found.recordings[shot.recording].name.encode()
    return b"%b %b %d %d" % (found.digests[shot.recording], name, shot.begin + stretch.begin, shot.begin + stretch.end)
