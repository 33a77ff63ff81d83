"""Assign examples to splits by the name of their folder, or by a hash of their identity, never by their position.

Whether an example is held out depends only on its identity (the path of a file relative to the source, or the bytes of
a row) and the seed. Other files can be added or removed, and no training example ever becomes a test example.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

__all__ = [
    "NAMES",
    "SPLITS",
    "Digest",
    "assigned",
    "count_of",
    "differences",
    "digest_of",
    "has_splits",
    "held_out",
    "split_of",
    "uniform_of",
]

SPLITS = ("train", "validation", "test")
"""The splits of every kind of data, in order."""
NAMES: dict[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "t10k"),
}
"""The words that the name of each split is, or begins with."""
_NAMED = {split: re.compile(rf"(?:{'|'.join(words)})(?![^\W\d_])", re.IGNORECASE) for split, words in NAMES.items()}

Digest = Mapping[str, Mapping[str, Any]]
"""For each split, the number of `examples` and the `sha256` of their contents, independent of their order."""


def split_of(name: str) -> str | None:
    """Return the split that a folder or hub split is named after, by its first word; None if it is not named after one.

    For example, `val`, `train2017`, `test-clean` and `Validation_set` name splits; `trial` and `valley` do not.
    """
    return next((split for split, named in _NAMED.items() if named.match(name)), None)


def has_splits(folders: Iterable[str]) -> bool:
    """Return whether the folders of a source are splits rather than classes.

    They are if all have names of splits, or if a training split and another split are among them: one class may be
    called `train` or `test`, but hardly two.
    """
    found = [split_of(folder) for folder in set(folders)]
    return bool(found) and (None not in found or {"train"} < set(found) - {None})


def uniform_of(identity: bytes, seed: int) -> float:
    """Return the number in [0, 1) that decides an example's split; it depends only on the identity and the seed."""
    digest = hashlib.sha256(b"%d " % seed + identity).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def assigned(identities: Iterable[bytes], validation: float, test: float, seed: int) -> dict[str, np.ndarray]:
    """Return the indices of the examples of each split, int64 in increasing order.

    Args:
        identities: the identities of the examples; for a large data set, a generator saves memory.
        validation: the expected share to hold out for validation.
        test: the expected share to hold out for testing.
        seed: the seed of the choice.
    """
    drawn = np.array([uniform_of(identity, seed) for identity in identities])
    return {
        "train": np.flatnonzero(drawn >= validation + test),
        "validation": np.flatnonzero(drawn < validation),
        "test": np.flatnonzero((drawn >= validation) & (drawn < validation + test)),
    }


def digest_of(marks: Iterable[bytes]) -> dict[str, Any]:
    """Return the number of examples and the SHA-256 of their marks, independent of their order."""
    sums = sorted(hashlib.sha256(mark).digest() for mark in marks)
    return {"examples": len(sums), "sha256": hashlib.sha256(b"".join(sums)).hexdigest()}


def differences(before: Digest, now: Digest) -> str | None:
    """Return a description of how data have changed, split by split; None if they have not."""
    told = []
    for split in dict.fromkeys([*before, *now]):
        old, new = before.get(split, {}), now.get(split, {})
        if old == new:
            continue
        counts = old.get("examples", 0), new.get("examples", 0)
        if counts == (None, None):
            told.append(f"{split}: a different stream")
        elif counts[0] == counts[1]:
            told.append(f"{split}: {counts[0]:,} examples as before, but different ones")
        else:
            told.append(f"{split}: {_number(counts[0])} before, {_number(counts[1])} now")
    return "; ".join(told) or None


def count_of(part: Mapping[str, Any]) -> str:
    """Return the number of examples in the digest of a split, as text."""
    count = part.get("examples", 0)
    return "streamed" if count is None else f"{count:,}"


def _number(count: int | None) -> str:
    return "a stream" if count is None else f"{count:,} examples"


def held_out(
    path: bytes, total: int, window: int, gap: int, shares: Mapping[str, float], seed: int
) -> list[tuple[str, int, int]]:
    """Return the stretches of one sequence as (split, begin, end), in order; what is between them is in no split.

    The held-out stretches are next to each other, at a place that depends on the path and the seed. Each is a whole
    number of windows, at least one. If no window would be left to train on, the whole sequence is for training.

    Args:
        path: what the sequence is known by, such as its path.
        total: its length.
        window: length of a training window.
        gap: what is left out on both sides of a held-out stretch.
        shares: the share of each split but `train`, in order; 0 for none.
        seed: the seed of the places.
    """
    parts = [(split, max(1, round(share * total / window)) * window) for split, share in shares.items() if share]
    held = sum(size + gap for _, size in parts) + gap
    if not parts or total - held < window:
        return [("train", 0, total)]
    first = int(uniform_of(path, seed) * (total - held + 1))
    # A rest of less than a window on one side is given to the other.
    first = 0 if first < window else total - held if total - held - first < window else first
    begin, found = first + gap if first else 0, [("train", 0, first)] if first else []
    for split, size in parts:
        found.append((split, begin, begin + size))
        begin += size + gap
    return [*found, ("train", begin, total)] if total - begin >= window else found
