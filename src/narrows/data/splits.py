"""Which split an example is of: said by the folder it lies in, or drawn from what it is, never from where it stands.

An example that is held out is so by its own identity (the path of a file below the source, the bytes of a row) and the
seed. Other files may come and go: none that was trained on is ever tested on.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = [
    "SPLITS",
    "Digest",
    "assigned",
    "count_of",
    "differences",
    "digest_of",
    "has_splits",
    "split_of",
    "uniform_of",
]

SPLITS = ("train", "validation", "test")
"""The splits of every kind of data, in order."""
NAMES = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "t10k"),
}
_NAMED = {split: re.compile(rf"(?:{'|'.join(words)})(?![a-z])", re.IGNORECASE) for split, words in NAMES.items()}

Digest = Mapping[str, Mapping[str, Any]]
"""Of each split the number of `examples`, and the `sha256` of what they are, in any order."""


def split_of(name: str) -> str | None:
    """Return the split that a name of a folder or a hub split tells, by the word it begins with; None if it tells none.

    So `val`, `train2017`, `test-clean` and `Validation_set` name splits, and `trial` and `valley` do not.
    """
    return next((split for split, named in _NAMED.items() if named.match(name)), None)


def has_splits(folders: Iterable[str]) -> bool:
    """Return whether the folders of a source are its splits rather than its classes.

    They are if all of them name splits, or if a training split and another are among them: a class may be called
    `train` or `test`, but hardly two.
    """
    found = [split_of(folder) for folder in set(folders)]
    return bool(found) and (None not in found or {"train"} < set(found) - {None})


def uniform_of(identity: bytes, seed: int) -> float:
    """Return the number in [0, 1) that decides an example's split, a function of its identity and the seed alone."""
    digest = hashlib.sha256(b"%d " % seed + identity).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def assigned(identities: Sequence[bytes], validation: float, test: float, seed: int) -> dict[str, np.ndarray]:
    """Return the positions of the examples of each split, int64 and rising.

    Args:
        identities: of the examples.
        validation: the share to hold out for validation, in expectation.
        test: the share to hold out for the test, in expectation.
        seed: of the choice.
    """
    drawn = np.array([uniform_of(identity, seed) for identity in identities])
    return {
        "train": np.flatnonzero(drawn >= validation + test),
        "validation": np.flatnonzero(drawn < validation),
        "test": np.flatnonzero((drawn >= validation) & (drawn < validation + test)),
    }


def digest_of(marks: Iterable[bytes]) -> dict[str, Any]:
    """Return the number of examples and the SHA-256 of their marks, whatever their order."""
    sums = sorted(hashlib.sha256(mark).digest() for mark in marks)
    return {"examples": len(sums), "sha256": hashlib.sha256(b"".join(sums)).hexdigest()}


def differences(before: Digest, now: Digest) -> str | None:
    """Return in words how data have changed, split by split; None if they are the same."""
    told = []
    for split in dict.fromkeys([*before, *now]):
        old, new = before.get(split, {}), now.get(split, {})
        if old == new:
            continue
        counts = old.get("examples", 0), new.get("examples", 0)
        told.append(
            f"{split}: as many examples ({counts[0]:,}), but not the same"
            if counts[0] == counts[1] and counts[0] is not None
            else f"{split}: {_number(counts[0])} then, {_number(counts[1])} now"
        )
    return "; ".join(told) or None


def count_of(part: Mapping[str, Any]) -> str:
    """Return the examples of a split, as its digest counts them."""
    count = part.get("examples", 0)
    return "streamed" if count is None else f"{count:,}"


def _number(count: int | None) -> str:
    return "a stream" if count is None else f"{count:,} examples"
