"""Sound from a folder of files or the hub, by split, as 16-bit mono clips at one sample rate."""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, ClassVar

import numpy as np

from narrows.data.batch import Spec
from narrows.data.dataset import Data
from narrows.data.errors import DataError
from narrows.data.loader import permutation
from narrows.data.skipped import Refused, Skipped, listed
from narrows.data.splits import assigned, count_of, digest_of
from narrows.modalities.sound.clips import Clips
from narrows.modalities.sound.files import Sound, decode_sound, to_int16
from narrows.modalities.sound.settings import SoundSettings
from narrows.modalities.sound.sources import FoundSound, Recording, find_sound
from narrows.progress import Meter, Progress, hidden

__all__ = ["SoundData", "open_sounds"]

CLIPPED = 0.001
"""A file counts as clipped if more than this share of its samples is at full scale."""

logger = logging.getLogger(__name__)

Splits = dict[str, list[Recording]]


@dataclass
class Tally:
    """Counts of converted files, and the silent and clipped ones, collected to be reported once."""

    rates: Counter[int] = field(default_factory=Counter)
    mixed: int = 0
    silent: list[str] = field(default_factory=list)
    clipped: list[str] = field(default_factory=list)


@dataclass
class SoundData(Data):
    """A data set of sound.

    Args:
        unheard: all clips of speakers that are not in training, whatever their split; may be empty.
        speakers: the names of speakers 0, 1, ...; training speakers (the classes) come first.
        silent: files with only zero samples in 16 bits; they are kept.
        clipped: files with more than 0.1% of their samples at full scale; they are kept.
    """

    SPLITS: ClassVar[tuple[str, ...]] = (*Data.SPLITS, "unheard")

    train: Clips
    validation: Clips
    test: Clips
    unheard: Clips
    speakers: list[str]
    silent: list[str]
    clipped: list[str]

    @property
    def all(self) -> Clips:
        """The clips of all splits, `unheard` included, one after another."""
        return Clips.joined([self.train, self.validation, self.test, self.unheard])


def open_sounds(settings: SoundSettings, quiet: bool = False, progress: Progress = hidden) -> SoundData:
    """Find, split and decode the sound that `settings` describe.

    Args:
        settings: which sound to read, and how.
        quiet: log nothing (for all processes of a run but the first).
        progress: shows how far the work is.

    Raises:
        DataError: if there is no sound, or it does not match the settings.
    """
    skipped, tally = Skipped(settings.strict), Tally()
    found = find_sound(settings)
    for file, reason in found.foreign:
        skipped.add(file, reason)
    splits = _hold_out(*_kept_apart(found.splits, settings), settings)
    speakers = sorted({recording.speaker for part in splits.values() for recording in part})
    count = sum(map(len, splits.values()))
    with progress("reading sound", count, "clips") as meter:
        clips = {split: _read(part, speakers, settings, skipped, tally, meter) for split, part in splits.items()}
    for split, part in splits.items():
        if part and not len(clips[split]):
            file, reason = skipped[-1]
            raise DataError(
                f"data.source {settings.source}: none of the {len(part)} {split} clips can be read; the last: "
                f"{file}: {reason}"
            )
    digest = {
        split: digest_of(one.mark for one in part if one.name in names)
        for split, part in splits.items()
        for names in [set(clips[split].names)]
    }
    counts = ", ".join(f"{count_of(part)} {split}" for split, part in digest.items())
    summary = f"{settings.source}: {counts} clips; {len(speakers)} speakers; {len(skipped)} files skipped"
    if not quiet:
        logger.info(summary)
        _announce(settings, found, tally, skipped)
    numbered = _heard_first(clips)
    heard = numbered["speakers"][: numbered["train"].labels.max(initial=-1) + 1]
    return SoundData(
        **numbered,
        spec=Spec((1, settings.window), "sound", tuple(heard), (-1.0, 1.0), True, settings.sample_rate),
        skipped=skipped,
        silent=tally.silent,
        clipped=tally.clipped,
        digest=digest,
        summary=summary,
    )


def _kept_apart(splits: Splits, settings: SoundSettings) -> tuple[Splits, list[Recording]]:
    """Return the splits without the speakers that are not in training, and the recordings of those speakers."""
    speakers = {recording.speaker for part in splits.values() for recording in part}
    if unknown := sorted(set(settings.held_out_speakers) - speakers):
        raise DataError(
            f"data.held_out_speakers names {', '.join(unknown)}; the speakers are {', '.join(sorted(speakers))}"
        )
    heard = {recording.speaker for recording in splits.get("train", [])}.difference(settings.held_out_speakers)
    rest = {split: [one for one in part if one.speaker in heard] for split, part in splits.items()}
    return rest, [one for part in splits.values() for one in part if one.speaker not in heard]


def _hold_out(splits: Splits, unheard: list[Recording], settings: SoundSettings) -> Splits:
    """Return the splits train, validation, test and unheard; hold out validation and test from train if missing.

    Held-out clips are in a fixed random order, so that the first few cover all speakers.
    """
    train = splits.get("train", [])
    shares = {split: 0.0 if splits.get(split) else getattr(settings, split) for split in ("validation", "test")}
    places = assigned((one.identity for one in train), **shares, seed=settings.split_seed)
    if (train or settings.held_out_speakers) and not len(places["train"]):
        raise DataError(
            f"data.source {settings.source} has {len(train)} training clips: none is left once data.validation, "
            "data.test and data.held_out_speakers are held out; hold out less, or give more clips"
        )
    held = {split: splits.get(split) or [train[place] for place in places[split]] for split in shares}
    mixed = {
        split: [part[place] for place in permutation(len(part), settings.split_seed)]
        for split, part in {**held, "unheard": unheard}.items()
    }
    return {"train": [train[place] for place in places["train"]], **mixed}


def _heard_first(clips: dict[str, Clips]) -> dict[str, Any]:
    """Return the clips with their speakers renumbered, training speakers first, and the names as `speakers`."""
    names = clips["train"].classes
    heard = sorted(set(clips["train"].labels.tolist()))
    others = {speaker for part in clips.values() for speaker in part.labels.tolist()}.difference(heard)
    order = heard + sorted(others)
    speakers, places = [names[old] for old in order], np.zeros(len(names), np.int64)
    places[order] = np.arange(len(order))
    anew = {split: part.relabelled(speakers, places[part.labels]) for split, part in clips.items()}
    return {**anew, "speakers": speakers}


def _read(
    recordings: list[Recording],
    speakers: list[str],
    settings: SoundSettings,
    skipped: Skipped,
    tally: Tally,
    meter: Meter,
) -> Clips:
    # Grows in place, so that the data are never in memory twice.
    samples = bytearray()
    kept, offsets = [], [0]
    for recording, result in zip(recordings, _decoded(recordings, settings.sample_rate), strict=True):
        meter.advance()
        if isinstance(result, Refused):
            skipped.add(recording.name, result.reason)
            continue
        kept.append(recording)
        samples += result.samples.data
        offsets.append(offsets[-1] + len(result.samples))
        tally.rates[result.rate] += 1
        tally.mixed += result.channels > 1
        if not result.samples.any():
            tally.silent.append(recording.name)
        if result.clipped > CLIPPED:
            tally.clipped.append(recording.name)
    places = {name: place for place, name in enumerate(speakers)}
    return Clips(
        values=np.frombuffer(samples, np.int16),
        offsets=np.array(offsets, np.int64),
        names=[recording.name for recording in kept],
        labels=np.array([places[recording.speaker] for recording in kept], np.int64),
        classes=speakers,
        window=settings.window,
    )


def _decoded(recordings: list[Recording], rate: int) -> Iterator[Sound | Refused]:
    """Yield all recordings in order as int16, decoded by one thread per core and only a few ahead of the reader."""

    def decode(recording: Recording) -> Sound | Refused:
        try:
            sound = decode_sound(recording.content(), rate)
        except Exception as error:  # a damaged file can make a decoder raise anything
            return Refused(f"{error}" if isinstance(error, DataError | OSError) else f"{type(error).__name__}: {error}")
        return sound._replace(samples=to_int16(sound.samples))

    threads = min(32, os.cpu_count() or 1)
    rest = iter(recordings)
    with ThreadPoolExecutor(threads) as pool:
        pending = deque(pool.submit(decode, recording) for recording in islice(rest, 4 * threads))
        while pending:
            yield pending.popleft().result()
            pending.extend(pool.submit(decode, recording) for recording in islice(rest, 1))


def _announce(settings: SoundSettings, found: FoundSound, tally: Tally, skipped: Skipped) -> None:
    notes = list(found.notes)
    for rate, count in sorted(tally.rates.items()):
        if rate != settings.sample_rate:
            notes.append(f"files resampled from {rate:,} Hz to {settings.sample_rate:,} Hz: {count}")
    if tally.mixed:
        notes.append(f"files with several channels, mixed down to one: {tally.mixed}")
    notes += listed("silent files, kept", tally.silent)
    notes += listed("clipped files (over 0.1% of their samples at full scale), kept", tally.clipped)
    notes += listed("files skipped", [f"{file}: {reason}" for file, reason in skipped])
    for note in notes:
        logger.warning("%s: %s", settings.source, note)
