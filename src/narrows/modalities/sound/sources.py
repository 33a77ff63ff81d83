"""Find sound files or rows and their speakers, in a folder with a usual layout or a data set of the hub.

LibriSpeech (Panayotov et al., 2015) is SUBSET/SPEAKER/CHAPTER/SPEAKER-CHAPTER-NUMBER.flac; VCTK (Yamagishi et al.,
2019) is wav48/SPEAKER/SPEAKER_NUMBER, and from version 0.92 on has a file for each of two microphones.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from narrows.data.errors import DataError
from narrows.data.hub import bytes_of, load_hub
from narrows.data.splits import has_splits, split_of
from narrows.data.walk import walk
from narrows.modalities.sound.settings import SoundSettings

__all__ = ["FoundSound", "Recording", "find_sound"]

EXTENSIONS = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff")
LIBRISPEECH = re.compile(
    r"(?:(?:.*/)?(?P<subset>[^/]+)/)?(?P<speaker>\d+)/(?P<chapter>\d+)/(?P=speaker)-(?P=chapter)-[^/]*"
)
VCTK = re.compile(r"(?:.*/)?(?P<speaker>p\d+|s5)/(?P=speaker)_[^/]*")
SPEAKER_COLUMNS = ("speaker_id", "speaker", "client_id")


class Recording(NamedTuple):
    """A clip before it is decoded.

    Args:
        name: the name of the clip in messages.
        speaker: the name of the speaker.
        identity: bytes that decide its split: the path of its file relative to the source, or a hash of its content.
        content: returns its file or its bytes.
    """

    name: str
    speaker: str
    identity: bytes
    content: Callable[[], Path | bytes]

    @property
    def mark(self) -> bytes:
        """Bytes that change with the clip: its identity and, for a file, the size."""
        content = self.content()
        return self.identity + (b"\t%d" % content.stat().st_size if isinstance(content, Path) else b"")


@dataclass
class FoundSound:
    """The contents of a source.

    Args:
        splits: the recordings of each split, in an order that is the same on every machine.
        foreign: (file, reason) for each file that cannot be used.
        notes: remarks for the user.
    """

    splits: dict[str, list[Recording]]
    foreign: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_sound(settings: SoundSettings) -> FoundSound:
    """Find the recordings that `settings` describe, by split.

    Raises:
        DataError: if there are none, or their speakers cannot be found.
    """
    path = Path(settings.source).expanduser()
    if settings.source.startswith("hf:"):
        return _find_hub(settings)
    if not path.exists():
        raise DataError(f"data.source {settings.source} does not exist; give a folder, a file, or hf:NAME for the hub")
    root, files = (path, walk(path)) if path.is_dir() else (path.parent, [path.name])
    sounds = [file for file in files if file.lower().endswith(EXTENSIONS)]
    if not sounds and any(file.endswith(".parquet") for file in files):
        return _find_hub(settings)
    if not sounds:
        raise DataError(f"{path} has no sound: data.source needs a folder of sound files ({' '.join(EXTENSIONS)})")
    found = FoundSound({})
    others = Counter(Path(file).suffix or Path(file).name for file in set(files) - set(sounds))
    if others:
        listed = ", ".join(f"{count} {ending}" for ending, count in sorted(others.items()))
        found.notes.append(f"files without a sound extension, skipped: {listed}")
    _sort(root, _one_microphone(sounds, found), settings, found)
    return found


def _one_microphone(files: list[str], found: FoundSound) -> list[str]:
    """Drop VCTK's second microphone where the first has the same take, which could otherwise be in two splits."""
    known = set(files)
    twice = {
        file
        for file in files
        if VCTK.fullmatch(file) and "_mic2." in file and file.replace("_mic2.", "_mic1.") in known
    }
    if twice:
        found.notes.append(f"files of a second microphone (_mic2), skipped: {len(twice)}")
    return [file for file in files if file not in twice]


def _sort(root: Path, files: list[str], settings: SoundSettings, found: FoundSound) -> None:
    """Sort sound files into splits and find their speakers."""
    split_folders = has_splits(filter(None, map(_split_folder, files)))
    table = None if settings.speaker == "folder" else _read_table(root, settings.speaker)
    for file in files:
        split = split_of(_split_folder(file) or "") if split_folders else "train"
        speaker = _speaker_of(file, root, split_folders) if table is None else table.pop(file, None)
        if split is None:
            found.foreign.append((str(root / file), "outside the folders train, validation and test"))
        elif speaker is None:
            found.foreign.append((str(root / file), f"not in the table of speakers {settings.speaker}"))
        else:
            # Both microphones' files of one take have the same identity.
            identity = file.replace("_mic2.", "_mic1.") if VCTK.fullmatch(file) else file
            recording = Recording(str(root / file), speaker, os.fsencode(identity), partial(root.joinpath, file))
            found.splits.setdefault(split, []).append(recording)
    missing = [root / file for file in table or () if not (root / file).exists()]
    found.foreign += [(str(path), f"listed in the table {settings.speaker}, but does not exist") for path in missing]
    if len(found.splits) == 1:  # a single split is used for training, whatever its name
        found.splits = {"train": next(iter(found.splits.values()))}
    if not found.splits:
        raise DataError(
            f"none of the sound to train on in {root} is in the table {settings.speaker}: its column `file` must be "
            f"relative to the source, such as {files[0]}"
        )


def _split_folder(file: str) -> str | None:
    """Return the folder that may name a file's split: the first, or in LibriSpeech the subset (`train-clean-100`)."""
    libri = LIBRISPEECH.fullmatch(file)
    if libri and libri["subset"]:
        return libri["subset"]
    return file.split("/")[0] if "/" in file else None


def _speaker_of(file: str, root: Path, has_splits: bool) -> str:
    """Return the speaker by the layout of LibriSpeech or VCTK, else the first folder, else the name of the source."""
    if known := LIBRISPEECH.fullmatch(file) or VCTK.fullmatch(file):
        return known["speaker"]
    folders = file.split("/")[has_splits:-1]
    return folders[0] if folders else root.resolve().name


def _read_table(root: Path, name: str) -> dict[str, str]:
    """Return the speaker of each file, by its path relative to the source."""
    path = Path(name).expanduser()
    path = path if path.exists() else root / name
    speakers: dict[str, str] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            rows = csv.DictReader(lines, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
            if not {"file", "speaker"} <= set(rows.fieldnames or ()):
                raise DataError(f"{path} has no columns `file` and `speaker`, only {', '.join(rows.fieldnames or ())}")
            for row in rows:
                file, speaker = PurePosixPath((row["file"] or "").replace("\\", "/")).as_posix(), row["speaker"]
                if not speaker or speakers.setdefault(file, speaker) != speaker:
                    raise DataError(f"{path}, line {rows.line_num}: {file} has no speaker, or two different ones")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"data.speaker {name} cannot be read ({error}); give `folder`, or a .csv or .tsv file with the columns "
            "`file` and `speaker`"
        ) from error
    return speakers


def _find_hub(settings: SoundSettings) -> FoundSound:
    import datasets  # takes a second to import, and folders do not need it

    if settings.speaker != "folder":
        raise DataError(
            f"data.speaker is {settings.speaker}, but {settings.source} has no files: set data.speaker_column"
        )
    name = settings.source.removeprefix("hf:")
    loaded = load_hub(settings.source, settings.config)
    features = next(iter(loaded.values())).features
    listed = f"the columns of {name} are {', '.join(features)}"
    audio, speaker = settings.audio_column, settings.speaker_column
    if audio is None:
        sounds = [column for column, feature in features.items() if isinstance(feature, datasets.Audio)]
        if len(sounds) != 1:
            raise DataError(f"there is not exactly one column of sound: set data.audio_column; {listed}")
        audio = sounds[0]
    if speaker is None:
        speaker = next((column for column in SPEAKER_COLUMNS if column in features), None)
    for setting, column in (("audio_column", audio), ("speaker_column", speaker)):
        if column is not None and column not in features:
            raise DataError(f"data.{setting} is {column!r}, but {listed}")
    label = features.get(speaker)
    name_of = label.int2str if isinstance(label, datasets.ClassLabel) else str
    found = FoundSound({})
    for split, part in loaded.items():
        cells = part.select_columns(audio).with_format("arrow")[:].column(audio)
        recordings = found.splits.setdefault(split, [])
        for row, value in enumerate([name] * len(part) if speaker is None else part[speaker][:]):
            if value is None:
                found.foreign.append((f"{name} {split} row {row}", "it has no speaker"))
            else:
                speaks = name if speaker is None else name_of(value)
                identity = hashlib.sha256(bytes_of(cells[row].as_py())).digest()
                content = partial(_content, cells, row)
                recordings.append(Recording(f"{name} {split} row {row}", speaks, identity, content))
    return found


def _content(cells: Any, row: int) -> Path | bytes:
    cell = cells[row].as_py()
    content, path = (cell["bytes"], cell.get("path")) if isinstance(cell, dict) else (cell, None)
    if content is not None:
        return content
    if path is None:
        raise DataError("the row has no sound")
    return Path(path)
