"""Split long sequences by whole sequences or by stretches of time, and cut them into clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from narrows.data.splits import assigned, held_out

__all__ = ["HoldOut", "Stretch", "cut", "empty_splits", "split_sequences"]


class Stretch(NamedTuple):
    """Some positions of a sequence, or all of them."""

    sequence: int
    begin: int
    end: int


class HoldOut(NamedTuple):
    """What is held out of sequences.

    Args:
        by: `sequence` holds out whole sequences; `time` holds out a stretch of every sequence.
        window: length of a training window; a stretch is a whole number of them.
        gap: positions left out on both sides of a stretch.
        validation: the share held out for validation.
        test: the share held out for testing.
        seed: the seed of the choice.
    """

    by: Literal["sequence", "time"]
    window: int
    gap: int
    validation: float
    test: float
    seed: int


def split_sequences(
    names: Sequence[str], lengths: Sequence[int], settings: HoldOut
) -> tuple[dict[str, list[Stretch]], list[str]]:
    """Return the stretches of each split, and the names of sequences too short to hold a part out.

    Args:
        names: the name of each sequence, on which alone its split depends.
        lengths: the length of each sequence.
        settings: what is held out.
    """
    splits: dict[str, list[Stretch]] = {"train": [], "validation": [], "test": []}
    if settings.by == "sequence":
        shares = assigned((name.encode() for name in names), settings.validation, settings.test, settings.seed)
        for split, indices in shares.items():
            splits[split] = [Stretch(int(index), 0, lengths[index]) for index in indices]
        return splits, []
    short, kept = [], {"validation": settings.validation, "test": settings.test}
    for index, (name, length) in enumerate(zip(names, lengths, strict=True)):
        stretches = held_out(name.encode(), length, settings.window, settings.gap, kept, settings.seed)
        if len(stretches) == 1 and settings.validation + settings.test > 0:
            short.append(name)
        for split, begin, end in stretches:
            splits[split].append(Stretch(index, begin, end))
    return splits, short


def empty_splits(splits: Mapping[str, Sequence[Stretch]], settings: HoldOut) -> list[str]:
    """Return a note for each split that should have examples but has none."""
    shares = {"validation": settings.validation, "test": settings.test}
    return [
        f"no sequence is held out for {split}: raise data.{split}, set another data.split_seed, or set "
        "data.hold_out=time, which holds out a stretch of every sequence"
        for split, share in shares.items()
        if share and not splits[split]
    ]


def cut(stretch: Stretch, length: int | None, least: int) -> list[Stretch]:
    """Return a stretch cut into clips of `length`; a rest shorter than `least` is part of the last one."""
    if length is None:
        return [stretch]
    begins = list(range(stretch.begin, stretch.end, length))
    if len(begins) > 1 and stretch.end - begins[-1] < least:
        begins.pop()
    ends = [*begins[1:], stretch.end]
    return [Stretch(stretch.sequence, begin, end) for begin, end in zip(begins, ends, strict=True)]
