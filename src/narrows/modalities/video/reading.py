"""Find and read the recordings of a source."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from narrows.data.batch import Spec
from narrows.data.errors import DataError
from narrows.data.skipped import Skipped
from narrows.data.splits import split_of
from narrows.data.walk import walk
from narrows.modalities.video.film_files import FILMS, read_film
from narrows.modalities.video.npz import read_npz
from narrows.modalities.video.recording import SAME_RATE, Fit, Memory, Recording, TooLarge
from narrows.modalities.video.stills import STILLS, in_order, read_stills
from narrows.progress import Progress

__all__ = ["EXTENSIONS", "Found", "Source", "find_sources", "read_all", "read_recordings"]

EXTENSIONS = (*FILMS, ".npz")


@dataclass(frozen=True)
class Source:
    """A file, or a folder of numbered frames.

    Args:
        name: its path relative to the source of the data, without the suffix of a file.
        files: the file, or the frames in order.
        split: the split that its name, or that of its folder at the top, says; None if names say nothing.
    """

    name: str
    files: list[Path]
    split: str | None = None

    @property
    def path(self) -> Path:
        """The file or the folder."""
        return self.files[0] if len(self.files) == 1 else self.files[0].parent

    @property
    def digest(self) -> bytes:
        """The SHA-256 of its content."""
        digest = hashlib.sha256()
        for file in self.files:
            with file.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
        return digest.digest()


@dataclass
class Found:
    """The recordings of all sources.

    Args:
        recordings: those that could be read.
        splits: the split that names say, for each recording, or None.
        digests: the digest of the source of each.
        short: the others that could be read, which are shorter than a window, with the reason.
    """

    recordings: list[Recording] = field(default_factory=list)
    splits: list[str | None] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    short: list[tuple[str, str]] = field(default_factory=list)

    @property
    def rate(self) -> float | None:
        """Frames per second of the first recording that says its rate; None if none does."""
        return next((one.rate for one in self.recordings if one.rate), None)

    def require_same_rate(self, one: Recording) -> None:
        """Check that another recording has the rate of those found.

        Raises:
            DataError: if it has not.
        """
        if one.rate is not None and self.rate is not None and abs(one.rate / self.rate - 1) > SAME_RATE:
            raise DataError(
                f"it has {one.rate:.4g} frames/s, but others {self.rate:.4g}: set data.rate to sample all alike"
            )


def find_sources(source: str) -> list[Source]:
    """Return the files and folders of frames below a folder, or a single file.

    PNG and JPEG files are frames unless videos lie beside them. Each file or folder at the top whose name is that of a
    split is of this split, whatever the others are named. A single file or folder of frames has no split.

    Raises:
        DataError: if it does not exist.
    """
    path = Path(source).expanduser()
    if not path.exists():
        raise DataError(f"data.source {source} does not exist")
    root, files = (path.parent, [path.name]) if path.is_file() else (path, walk(path))
    found: dict[PurePosixPath, list[Path]] = {}
    for file in map(PurePosixPath, in_order(files)):
        if file.suffix.lower() in EXTENSIONS:
            found[file] = [root / file]
        elif file.suffix.lower() in STILLS:
            found.setdefault(file.parent, []).append(root / file)
    for folder in {file.parent for file in found if file.suffix.lower() in EXTENSIONS}:
        found.pop(folder, None)
    names = _names(list(found))
    if PurePosixPath() in found:
        names = [path.resolve().name if name == "." else name for name in names]
    tops = [PurePosixPath(name).parts[0] for name in names]
    named = path.is_dir() and len(found) > 1
    return [
        Source(name, own, split_of(top) if named else None)
        for name, top, own in zip(names, tops, found.values(), strict=True)
    ]


def _names(files: Sequence[PurePosixPath]) -> list[str]:
    """Return paths without the suffixes of files, unless two would have the same name."""
    short = [str(file.with_suffix("")) if file.suffix.lower() in EXTENSIONS else str(file) for file in files]
    return [name if short.count(name) == 1 else str(file) for name, file in zip(short, files, strict=True)]


def _read_source(source: Source, fit: Fit, rate: float | None) -> list[Recording]:
    """Return the recordings of a file or folder.

    Raises:
        DataError: if it cannot be read.
    """
    suffix = source.files[0].suffix.lower()
    if suffix == ".npz":
        return read_npz(source.path, source.name, fit, rate)
    if suffix in STILLS:
        return [read_stills(source.files, source.name, fit, rate)]
    return [read_film(source.path, source.name, fit, rate)]


def read_all(
    sources: Sequence[Source], fit: Fit, rate: float | None, window: int, skipped: Skipped, progress: Progress
) -> Found:
    """Read all sources, and skip those that cannot be read, or whose frames have another size or rate than the first.

    Args:
        sources: the sources.
        fit: the size of the frames.
        rate: frames per second; None for those of the first recording that says its rate.
        window: the fewest frames of a recording that is kept.
        skipped: where skipped files are added.
        progress: shows the progress.

    Raises:
        TooLarge: if the frames do not fit into memory.
    """
    found = Found()
    with progress("read", len(sources), "files") as meter:
        for source in sources:
            before, kept = fit.memory.used, list[Recording]()
            try:
                recordings = _read_source(source, fit, rate)
                found.require_same_rate(recordings[0])
            except TooLarge:
                raise
            except DataError as error:
                skipped.add(str(source.path), str(error))
            else:
                kept = [one for one in recordings if len(one.frames) >= window]
                found.short += [
                    (one.name, f"it has {len(one.frames)} frames, but data.window is {window}")
                    for one in recordings
                    if len(one.frames) < window
                ]
            if kept:
                fit = fit._replace(like=fit.like or kept[0])
                found.recordings += kept
                found.splits += [source.split] * len(kept)
                found.digests += [source.digest] * len(kept)
            else:
                fit.memory.used = before
            meter.advance()
    return found


def read_recordings(path: Path, spec: Spec) -> list[Recording]:
    """Return the recordings of a file or of a folder of frames at the size and rate of a model, with any actions.

    Raises:
        DataError: if it cannot be read.
    """
    sources = find_sources(str(path))
    if len(sources) != 1:
        raise DataError(f"it holds {len(sources)} videos: name a single file, or a folder of frames")
    height, width = spec.shape[2:]
    return _read_source(sources[0], Fit(Memory(math.inf), height, width), spec.rate)
