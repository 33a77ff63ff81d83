"""The first part of a BVH file: the skeleton and the channels of each joint."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from narrows.data.errors import DataError
from narrows.modalities.motion.skeleton import EndSite, Skeleton

__all__ = ["Channels", "read_hierarchy", "write_hierarchy"]

Channels = tuple[tuple[str, ...], ...]
"""For each joint, its channels in the order of the file: an axis, X, Y or Z, and `position` or `rotation`."""

KNOWN = {f"{axis}{kind}".lower(): f"{axis}{kind}" for kind in ("position", "rotation") for axis in "XYZ"}


def read_hierarchy(text: str) -> tuple[Skeleton, Channels]:
    """Read the text of a BVH file before the line MOTION.

    Keywords may be in upper or lower case, and braces and names on any line.

    Raises:
        DataError: naming the line and the joint, if something is missing, twice or unknown.
    """
    joints: list[str] = []
    parents: list[int] = []
    offsets: list[tuple[float, float, float] | None] = []
    channels: list[tuple[str, ...]] = []
    ends: list[EndSite] = []
    open_joints: list[int] = []  # the joint that each open brace belongs to; an end site is read at once
    words = _words(text)
    for line, word in words:
        keyword = word.upper()
        if keyword in ("ROOT", "JOINT"):
            name = " ".join(_until_brace(words))
            if name in joints:
                raise DataError(f"line {line}: the joint {name!r} is listed twice")
            if joints and not open_joints:
                raise DataError(f"line {line}: {name!r} is a second root; a file has one skeleton")
            open_parent = open_joints[-1] if open_joints else -1
            open_joints.append(len(joints))
            joints.append(name)
            parents.append(open_parent)
            offsets.append(None)
            channels.append(())
        elif keyword == "END" and open_joints:
            list(_until_brace(words))
            found = _next(words)
            if found[1].upper() != "OFFSET":
                raise DataError(f"line {found[0]}: the end site of {joints[open_joints[-1]]!r} has no OFFSET")
            ends.append(EndSite(open_joints[-1], _offset(words)))
            if (found := _next(words))[1] != "}":
                raise DataError(f"line {found[0]}: {found[1]!r} instead of the end of an end site")
        elif keyword == "OFFSET" and open_joints:
            offsets[open_joints[-1]] = _offset(words)
        elif keyword == "CHANNELS" and open_joints:
            channels[open_joints[-1]] = _channels(words, joints[open_joints[-1]])
        elif keyword == "}" and open_joints:
            if offsets[joint := open_joints.pop()] is None:
                raise DataError(f"line {line}: the joint {joints[joint]!r} has no OFFSET")
        elif keyword != "HIERARCHY":
            raise DataError(f"line {line}: {word!r} does not belong in a skeleton")
    if open_joints or not joints:
        raise DataError("it is truncated: its skeleton does not end" if joints else "it has no skeleton")
    return Skeleton(tuple(joints), tuple(parents), np.array(offsets, np.float64), tuple(ends)), tuple(channels)


def _words(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.split("\n"), 1):
        for word in line.replace("{", " { ").replace("}", " } ").split():
            yield number, word


def _next(words: Iterator[tuple[int, str]]) -> tuple[int, str]:
    found = next(words, None)
    if found is None:
        raise DataError("it is truncated: its skeleton does not end")
    return found


def _until_brace(words: Iterator[tuple[int, str]]) -> Iterator[str]:
    while (word := _next(words)[1]) != "{":
        yield word


def _offset(words: Iterator[tuple[int, str]]) -> tuple[float, float, float]:
    x, y, z = (_number(*_next(words)) for _ in range(3))
    return x, y, z


def _number(line: int, word: str) -> float:
    try:
        number = float(word)
    except ValueError as error:
        reason = "has a comma as decimal sign; replace it by a point" if "," in word else "is not a number"
        raise DataError(f"line {line}: {word!r} {reason}") from error
    if not np.isfinite(number):
        raise DataError(f"line {line}: {word!r} is not a finite number")
    return number


def _channels(words: Iterator[tuple[int, str]], joint: str) -> tuple[str, ...]:
    line, count = _next(words)
    found = [_next(words) for _ in range(int(count) if count.isdecimal() else 0)]
    names = tuple(KNOWN.get(word.lower(), "") for _, word in found)
    if not count.isdecimal() or "" in names or len(set(names)) < len(names):
        given = " ".join([count, *(word for _, word in found)])
        raise DataError(f"line {line}: {joint!r} has the channels {given!r}; known are {', '.join(KNOWN.values())}")
    return names


def write_hierarchy(skeleton: Skeleton, channels: Channels) -> str:
    """Return the text of a skeleton, from which `read_hierarchy` returns it to six decimals."""
    children: dict[int, list[int]] = {joint: [] for joint in range(-1, len(skeleton.joints))}
    for joint, parent in enumerate(skeleton.parents):
        children[parent].append(joint)
    lines = ["HIERARCHY"]

    def add(joint: int, depth: int) -> None:
        tabs, names = "\t" * depth, channels[joint]
        lines.append(f"{tabs}{'JOINT' if depth else 'ROOT'} {skeleton.joints[joint]}")
        lines.extend([f"{tabs}{{", f"{tabs}\t{_offset_line(skeleton.offsets[joint])}"])
        lines.append(f"{tabs}\tCHANNELS {' '.join([str(len(names)), *names])}")
        for child in children[joint]:
            add(child, depth + 1)
        for end in skeleton.ends:
            if end.joint == joint:
                lines.extend(
                    [f"{tabs}\tEnd Site", f"{tabs}\t{{", f"{tabs}\t\t{_offset_line(end.offset)}", f"{tabs}\t}}"]
                )
        lines.append(f"{tabs}}}")

    add(0, 0)
    return "\n".join(lines) + "\n"


def _offset_line(offset: np.ndarray | tuple[float, ...]) -> str:
    return "OFFSET " + " ".join(f"{round(float(value), 6) + 0.0:.6f}" for value in offset)
