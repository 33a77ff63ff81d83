"""The settings of `data` in a recipe for video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from narrows.data.errors import DataError
from narrows.data.limits import require_at_least, require_positive, require_rest, require_shares

__all__ = ["VideoSettings"]


@dataclass
class VideoSettings:
    """Which videos to read, and how.

    Args:
        source: a folder or a single file. Video files (MP4, AVI, WebM, MKV, MOV; they need narrows[video]), GIFs,
            folders of numbered PNG or JPEG frames, and npz files, also in subfolders, are read. An npz file has
            `frames` uint8 [T, H, W, 3], and may have `actions`, integers [T] or vectors [T, D], which are standardised;
            the action at index t is taken when frame t is seen; `action_names`; `episode` [T], whose changes mark the
            ends of recordings; and `rate`, in frames per second. A file or folder at the top whose name is, or begins
            with, that of a split (train, validation or val, test), such as test.npz or test_2, is of that split; all
            others are split as below.
        size: scale the shorter side of frames to `size` and crop the centre to `size` x `size`; None keeps their size,
            which must be the same in all files.
        rate: frames per second to sample video files and GIFs at, by their timestamps; None keeps the rate of the first
            one. It is also the rate of folders of frames and npz files that do not say theirs; all frames of these are
            used. Those of npz files must have it.
        cut: a cut is where the mean absolute difference of thumbnails of two successive frames, with levels in [0, 1],
            is at least this large and three times its mean at the four frames around, or where the same holds of the
            difference of their shares of colours (8 levels of red, green and blue) with 3.5 times this threshold. None
            finds no cuts. Files with actions or episodes are taken to have no other cuts.
        action_names: names of the actions 0, 1, ... of all files, whatever names these have; empty means the names that
            files have, by which actions are matched from file to file, or else their numbers.
        window: frames of a training window, which never reaches over a cut or the end of a recording; what is shorter
            is left out, and noted.
        stride: frames from the start of one training window to the next; None means a quarter of `window`.
        clip: cut recordings into clips of this many frames, which are measured one by one; a rest of less than half as
            many is part of the last one. None keeps them whole. Training windows do not depend on it.
        mirror: train on every training clip twice: as it is, and mirrored left to right. Priors, too, are trained on
            both. All figures are those of the clips as they are.
        mirror_actions: pairs of actions, by name or number, that are swapped in mirrored clips, such as
            [[left, right]]; the others stay as they are, which is noted.
        hold_out: `sequence` holds out whole files, or episodes where a file has them; `time` holds out a stretch of
            every part without a cut.
        validation: the share to hold out for validation, unless there is a split of that name.
        test: the share to hold out for testing, unless there is a split of that name.
        gap: frames left out on both sides of a stretch held out by time; None means `window`.
        split_seed: the seed of the choice of what is held out.
        memory_limit_gb: the most GB of decoded frames to keep in memory; larger data are refused. Reading needs up to
            twice as much, training on mirrored clips three times.
        strict: stop at the first file that cannot be read, instead of skipping it.
    """

    source: str = ""
    size: int | None = None
    rate: float | None = None
    cut: float | None = 0.1
    action_names: tuple[str, ...] = ()
    window: int = 16
    stride: int | None = None
    clip: int | None = None
    mirror: bool = False
    mirror_actions: tuple[tuple[str | int, str | int], ...] = ()
    hold_out: Literal["sequence", "time"] = "sequence"
    validation: float = 0.1
    test: float = 0.1
    gap: int | None = None
    split_seed: int = 0
    memory_limit_gb: float = 4.0
    strict: bool = False

    def __post_init__(self) -> None:
        if not self.source:
            raise DataError("data.source is not set: give a folder of videos, or one file, with --data FOLDER")
        require_at_least(self, {"size": 1, "window": 1, "stride": 1, "clip": 1, "gap": 0, "split_seed": 0})
        require_positive(self, ("rate", "cut", "memory_limit_gb"))
        require_shares(self)
        require_rest(self)
        if len(set(self.action_names)) < len(self.action_names):
            raise DataError(f"data.action_names has a name twice: {', '.join(self.action_names)}")
        named = [name for pair in self.mirrored_pairs for name in pair]
        if len(set(named)) < len(named):
            raise DataError(f"data.mirror_actions has an action twice: {', '.join(named)}")
        if named and not self.mirror:
            raise DataError("data.mirror_actions is for mirrored clips: also set data.mirror=true")

    @property
    def mirrored_pairs(self) -> list[tuple[str, str]]:
        """The names of `mirror_actions`; an action without a name has its number."""
        return [(str(one), str(other)) for one, other in self.mirror_actions]
