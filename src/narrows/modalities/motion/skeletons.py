"""BVH files of one skeleton as features, and back."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from narrows.modalities.motion.bind_pose import bind_pose_frames
from narrows.modalities.motion.bvh import Bvh, read_bvh, write_bvh
from narrows.modalities.motion.features import SkeletonLayout, find_moving_joints
from narrows.modalities.motion.feet import find_feet
from narrows.modalities.motion.figure import StickFigure, skeleton_figure
from narrows.modalities.motion.formats import Format, Moved, read_bytes, require_frames
from narrows.modalities.motion.hierarchy import read_hierarchy, write_hierarchy
from narrows.modalities.motion.resampling import frames_at, linear, spherical
from narrows.modalities.motion.root import Start, Up
from narrows.modalities.motion.skeleton import skeleton_difference

__all__ = ["BvhFormat", "BvhReading"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BvhReading:
    """How BVH files are read.

    Args:
        rate: frames per second, which overrides what the files say; None believes them.
        resample: frames per second to convert to; None keeps those of the files.
        skip_frames: number of frames to leave out at the start; None leaves out a bind pose, if there is one.
    """

    rate: float | None = None
    resample: float | None = None
    skip_frames: int | None = None

    def read(self, path: Path) -> tuple[Bvh, int]:
        """Return the motion of a file, and the number of frames that were left out at its start.

        Raises:
            DataError: if it cannot be read, or no frame is left.
        """
        clip = read_bvh(read_bytes(path))
        if self.rate is not None:
            clip = replace(clip, frame_time=1 / self.rate)
        skipped = bind_pose_frames(clip) if self.skip_frames is None else self.skip_frames
        require_frames(len(clip.values), skipped)
        clip = replace(clip, values=clip.values[skipped:])
        return (clip if self.resample is None else _resampled(clip, self.resample)), skipped


def _resampled(clip: Bvh, rate: float) -> Bvh:
    frames = frames_at(len(clip.values), 1 / clip.frame_time, rate)
    made = clip.with_motion(spherical(clip.rotations(), frames), linear(clip.translations(), frames))
    return replace(made, frame_time=1 / rate)


@dataclass(frozen=True, eq=False)
class BvhFormat(Format):
    """BVH files of one skeleton.

    Args:
        layout: what the features mean.
        unit_cm: centimetres per unit of the files.
        reading: how files are read.
    """

    layout: SkeletonLayout
    unit_cm: float
    reading: BvhReading

    suffix = ".bvh"
    has_root = True

    @classmethod
    def of_clips(cls, clips: Sequence[Bvh], up: Up, unit_cm: float, reading: BvhReading) -> BvhFormat:
        """Return the format of motions: that of the most frequent skeleton and, for it, the most frequent frame rate.

        The lengths of its bones are those of the first motion with this skeleton.
        """
        groups: list[list[Bvh]] = []
        for clip in clips:
            like = (group for group in groups if not skeleton_difference(group[0].skeleton, clip.skeleton))
            group = next(like, None)
            if group is None:
                groups.append([clip])
            else:
                group.append(clip)
        same = max(groups, key=len)
        (frame_time, _), *_ = Counter(round(clip.frame_time, 6) for clip in same).most_common(1)
        first = next(clip for clip in same if round(clip.frame_time, 6) == frame_time)
        layout = SkeletonLayout(replace(first, values=first.values[:0]), up, find_moving_joints(same))
        return cls(layout, unit_cm, reading)

    @classmethod
    def of_details(cls, details: Mapping[str, Any]) -> BvhFormat:
        """Return the format that `details` describes."""
        skeleton, channels = read_hierarchy(details["hierarchy"])
        values = np.zeros((0, sum(map(len, channels))))
        template = Bvh(skeleton, channels, float(details["frame_time"]), values)
        layout = SkeletonLayout(template, details["up"], tuple(map(int, details["moving"])))
        return cls(layout, float(details["unit_cm"]), BvhReading(**details["reading"]))

    @property
    def details(self) -> dict[str, Any]:
        """The format as JSON values."""
        template = self.layout.template
        return {
            "format": "bvh",
            "hierarchy": write_hierarchy(template.skeleton, template.channels),
            "frame_time": template.frame_time,
            "up": self.layout.up,
            "moving": list(self.layout.moving),
            "unit_cm": self.unit_cm,
            "reading": vars(self.reading),
        }

    @property
    def rate(self) -> float:  # type: ignore[override]
        """Frames per second of the features."""
        return 1 / self.layout.template.frame_time

    @property
    def up(self) -> Up:  # type: ignore[override]
        """The vertical axis."""
        return self.layout.up

    @property
    def size(self) -> int:
        """C, number of features."""
        return self.layout.size

    @property
    def about(self) -> str:
        """Describe the data in a few words."""
        joints = len(self.layout.template.skeleton.joints)
        return f"a skeleton of {joints} joints"

    def read(self, path: Path) -> np.ndarray:
        """Return the features of a BVH file, float32 [T, C], and log a bind pose left out; see `Format.read`."""
        clip, skipped = self.reading.read(path)
        if skipped and self.reading.skip_frames is None:
            logger.warning("%s: a bind pose at its start was left out: %d frames", path, skipped)
        return self.features(clip)

    def features(self, clip: Bvh) -> np.ndarray:
        """Return the features of a motion, float32 [T, C].

        Raises:
            DataError: if it has another skeleton or frame rate.
        """
        return self.layout.features(clip)[0]

    def write(self, path: Path, features: np.ndarray) -> None:
        """Write a BVH file that starts at the origin."""
        write_bvh(path, self.layout.motion(features, Start()))

    def figure(self, name: str, features: np.ndarray) -> StickFigure:
        """Return the stick figure of features [T, C]."""
        clip = self.layout.motion(features, Start())
        return skeleton_figure(name, clip.skeleton, clip.pose())

    def moved(self, features: np.ndarray) -> Moved:
        """Return the joints of features [T, C]; the motion starts at the origin."""
        clip = self.layout.motion(features, Start())
        rotations = clip.rotations()
        pose = clip.skeleton.pose(rotations, clip.translations())
        turning = [0, *self.layout.turning]
        feet = find_feet(clip.skeleton.joints)
        tips = [index for index, end in enumerate(clip.skeleton.ends) if end.joint in feet]
        soles = np.concatenate([pose.positions[:, feet], clip.skeleton.end_positions(pose)[:, tips]], 1)
        return Moved(
            rotations[:, turning],
            np.zeros((len(features), 0)),
            pose.positions * self.unit_cm,
            soles * self.unit_cm if feet else None,
        )
