"""Music from a folder of MIDI files: read as piano rolls, cut into stretches, and split without overlap."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from narrows.data.batch import Spec
from narrows.data.dataset import Data
from narrows.data.errors import DataError
from narrows.data.skipped import Skipped, listed
from narrows.data.splits import assigned, count_of, digest_of, held_out
from narrows.data.walk import walk
from narrows.modalities.music.midi import Clock, Notes, read_notes
from narrows.modalities.music.roll import RollLayout
from narrows.modalities.music.rolls import Rolls
from narrows.modalities.music.settings import MusicSettings
from narrows.progress import Progress, hidden

__all__ = ["EXTENSIONS", "MusicData", "open_music"]

EXTENSIONS = (".mid", ".midi", ".smf", ".kar")

logger = logging.getLogger(__name__)


class Song(NamedTuple):
    """A song that was read."""

    name: str
    notes: Notes
    unended: int
    """The number of notes that the file gives no end."""
    mark: bytes
    path: bytes
    """Its path without the ending, which places what is held out of it."""

    @property
    def length(self) -> int:
        """Number of steps."""
        return int(self.notes.end.max())


class Stretch(NamedTuple):
    """Some steps of a song."""

    song: Song
    begin: int
    end: int


@dataclass
class MusicData(Data):
    """A data set of music.

    Args:
        layout: what the values of its rolls mean.
        clock: how long a step is.
    """

    train: Rolls
    validation: Rolls
    test: Rolls
    layout: RollLayout
    clock: Clock

    @property
    def all(self) -> Rolls:
        """The stretches of all splits, one split after another."""
        return Rolls.joined([self.train, self.validation, self.test])


def open_music(
    settings: MusicSettings, quiet: bool = False, progress: Progress = hidden, spec: Spec | None = None
) -> MusicData:
    """Find, read and split the music that `settings` describes.

    Args:
        settings: which music to read, and how.
        quiet: log nothing (for all processes of a run but the first).
        progress: shows the progress.
        spec: specification of a model, whose pitches and steps are used; None to use the settings.

    Raises:
        DataError: if there is no music, or it does not match the settings.
    """
    layout = None if spec is None else RollLayout.of(spec.details)
    if spec is not None and layout is not None:
        beats, drums = layout.steps_per_beat, layout.drums
        settings = replace(settings, rate=spec.rate or settings.rate, steps_per_beat=beats, drums=drums)
    skipped, clock = Skipped(settings.strict), Clock(settings.rate, settings.steps_per_beat)
    songs = list(_read(settings, clock, skipped, progress))
    if not songs:
        last = f"; the last: {skipped[-1][0]}: {skipped[-1][1]}" if skipped else ""
        raise DataError(f"data.source {settings.source} has no music that can be read{last}")
    splits, whole = _split(songs, settings)
    if not splits["train"]:
        raise DataError(f"data.source {settings.source}: no music is left to train on; hold out less, or give more")
    layout = layout or _layout(splits["train"], settings)
    if not any(layout.covers(_notes_of(stretch)).any() for stretch in splits["train"]):
        raise DataError(
            f"data.source {settings.source}: no note of the training music has one of the pitches {layout.lowest} to "
            f"{layout.highest}"
        )
    titles = sorted(song.name for song in songs)
    rolls = {split: _rolls(part, titles, layout, settings) for split, part in splits.items()}
    digest = {split: digest_of(map(_mark, part)) for split, part in splits.items()}
    counts = ", ".join(f"{count_of(part)} {split}" for split, part in digest.items())
    summary = f"{settings.source}: {counts} stretches of {len(songs)} songs; {len(skipped)} files skipped"
    if not quiet:
        logger.info(summary)
        lost = sum(int((~layout.covers(song.notes)).sum()) for song in songs)
        notes = [f"notes outside the pitches {layout.lowest} to {layout.highest}, left out: {lost}"] if lost else []
        endless = [f"{song.name}: {song.unended}" for song in songs if song.unended]
        notes += listed("songs with notes without an end, which last until the last note starts or ends", endless)
        notes += listed("songs too short to hold a part out, used for training only", whole)
        notes += listed("files skipped", [f"{file}: {reason}" for file, reason in skipped])
        for note in notes:
            logger.warning("%s: %s", settings.source, note)
    rate = None if settings.steps_per_beat else settings.rate
    shape = (layout.channels, settings.window)
    return MusicData(
        **rolls,
        spec=Spec(shape, "music", tuple(titles), variable=True, rate=rate, details=layout.details),
        skipped=skipped,
        digest=digest,
        summary=summary,
        layout=layout,
        clock=clock,
    )


def _read(settings: MusicSettings, clock: Clock, skipped: Skipped, progress: Progress) -> Iterator[Song]:
    """Yield the songs of the source in the order of their names."""
    root = Path(settings.source).expanduser()
    if not root.exists():
        raise DataError(f"data.source {settings.source} does not exist")
    files = [root.name] if root.is_file() else [file for file in walk(root) if file.lower().endswith(EXTENSIONS)]
    folder = root.parent if root.is_file() else root
    names = _names(files)
    if unknown := sorted(set(settings.songs) - set(names.values())):
        raise DataError(f"data.songs names {', '.join(unknown)}, but {settings.source} has no such file")
    wanted = [file for file in files if not settings.songs or names[file] in settings.songs]
    if not wanted:
        raise DataError(f"data.source {settings.source} has no MIDI files ({', '.join(EXTENSIONS)})")
    with progress("reading music", len(wanted), "songs") as meter:
        for file in wanted:
            try:
                content = (folder / file).read_bytes()
                notes, unended = read_notes(content, clock, settings.tracks, settings.drums, settings.max_minutes)
                path = str(Path(file).with_suffix("")).encode()
                yield Song(names[file], notes, unended, hashlib.sha256(content).digest(), path)
            except (DataError, OSError) as error:
                skipped.add(str(folder / file), str(error))
            meter.advance()


def _names(files: list[str]) -> dict[str, str]:
    """Return the name of each file's song: its path without the ending, unless two would then be equal."""
    short = {file: str(Path(file).with_suffix("")) for file in files}
    count = Counter(short.values())
    return {file: name if count[name] == 1 else file for file, name in short.items()}


def _split(songs: list[Song], settings: MusicSettings) -> tuple[dict[str, list[Stretch]], list[str]]:
    """Return the stretches of each split, and the names of songs too short to hold a part out."""
    splits: dict[str, list[Stretch]] = {"train": [], "validation": [], "test": []}
    if settings.hold_out == "song":
        paths = (song.path for song in songs)
        found = assigned(paths, settings.validation, settings.test, settings.split_seed)
        for split, places in found.items():
            splits[split] = [Stretch(songs[place], 0, songs[place].length) for place in places]
        return splits, []
    short, window, shares = [], settings.window, {"validation": settings.validation, "test": settings.test}
    gap = window if settings.gap is None else settings.gap
    for song in songs:
        stretches = held_out(song.path, song.length, window, gap, shares, settings.split_seed)
        if len(stretches) == 1 and settings.validation + settings.test > 0:
            short.append(song.name)
        for split, begin, end in stretches:
            splits[split].append(Stretch(song, begin, end))
    return splits, short


def _layout(stretches: list[Stretch], settings: MusicSettings) -> RollLayout:
    """Return the layout of the settings, with the pitches found in the notes of these stretches if none are set."""
    pitches = settings.pitches
    if pitches is None:
        found = np.concatenate([_notes_of(stretch).pitch for stretch in stretches])
        if not len(found):
            raise DataError("there are no notes in the training data: hold out less, or give more music")
        counts, least = np.bincount(found, minlength=128).cumsum(), settings.rare / 2 * len(found)
        lowest = int(np.searchsorted(counts, least, side="right"))
        highest = int(np.searchsorted(counts, len(found) - least))
        pitches = (lowest, max(lowest, highest))
    return RollLayout(*pitches, settings.onsets, settings.velocity, settings.steps_per_beat, settings.drums)


def _notes_of(stretch: Stretch) -> Notes:
    notes = stretch.song.notes
    within = (notes.start >= stretch.begin) & (notes.start < stretch.end)
    return Notes(*(part[within] for part in notes))


def _rolls(stretches: list[Stretch], titles: list[str], layout: RollLayout, settings: MusicSettings) -> Rolls:
    number = {title: index for index, title in enumerate(titles)}
    songs = {stretch.song.name: stretch.song for stretch in stretches}
    by_song = {name: layout.to_roll(song.notes) for name, song in songs.items()}
    cut = [_padded(by_song[one.song.name], one.end)[one.begin : one.end] for one in stretches]
    return Rolls(
        values=np.concatenate([np.zeros((0, layout.channels), np.uint8), *cut]),
        offsets=np.cumsum([0, *map(len, cut)]),
        names=[
            f"{one.song.name} at {_place(one.begin, settings)}" if one.begin else one.song.name for one in stretches
        ],
        labels=np.array([number[one.song.name] for one in stretches], np.int64),
        classes=titles,
        window=settings.window,
        begins=np.array([one.begin for one in stretches], np.int64),
        stride=settings.stride or settings.window,
        windows_per_song=settings.windows_per_song,
        layout=layout,
        removed=settings.removed_notes,
    )


def _padded(roll: np.ndarray, length: int) -> np.ndarray:
    return np.pad(roll, [(0, max(0, length - len(roll))), (0, 0)])


def _mark(stretch: Stretch) -> bytes:
    return b"%b %d %d" % (stretch.song.mark, stretch.begin, stretch.end)


def _place(step: int, settings: MusicSettings) -> str:
    """Return the time of a step for the name of a stretch, which may become that of a file."""
    if settings.steps_per_beat:
        return f"beat {step // settings.steps_per_beat}"
    minutes, seconds = divmod(int(step / settings.rate), 60)
    return f"{minutes}m{seconds:02}s"
