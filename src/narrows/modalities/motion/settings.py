"""The settings of `data` in a recipe for motion."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from narrows.data.errors import DataError
from narrows.data.limits import require_at_least, require_positive, require_rest, require_shares
from narrows.modalities.motion.root import Up

__all__ = ["MotionSettings"]


@dataclass
class MotionSettings:
    """Which motions to read, and how.

    Args:
        source: a folder of BVH files of one skeleton, or of tables (CSV, npz, Parquet) with the same columns, or a
            single file. Beside BVH files, tables are not read. A file is a sequence.
        columns: a file that describes the columns of tables; without, that is `columns.txt` in the source, or else the
            names in the files.
        urdf: the URDF file of a robot whose joints are columns of the tables, for figures in centimetres.
        rate: frames per second of the files, instead of what BVH files or a column of times say.
        resample: convert all files to this number of frames per second; None keeps theirs, which must be equal.
        skip_frames: frames to leave out at the start of each file; None leaves out a bind pose at the start of a BVH
            file, if the figure jumps out of it.
        up: the vertical axis; None means y for BVH files and z for tables.
        unit_cm: centimetres per unit of length in the files; None means 1 for BVH files and 100 for tables. A URDF file
            is in metres.
        label: a regular expression for the path of a file relative to the source; the class of a sequence is its first
            group, or else all that it matches. Without, the class is the action in a name of LAFAN1 such as
            `walk1_subject2`, or else the folder of the file. The classes are those of the training split; if
            that has but one, there are none.
        window: frames of a training window.
        stride: frames from the start of one training window to the next; None means a quarter of `window`.
        clip: cut sequences into clips of this many frames, which are measured one by one; None keeps them whole.
            Training windows do not depend on it.
        hold_out: `sequence` holds out whole sequences; `time` holds out a stretch of every sequence.
        validation: the share of the motions to hold out for validation.
        test: the share of the motions to hold out for testing.
        test_files: a regular expression for the path of a file relative to the source: the files in whose path it is
            found are held out for testing, instead of a share. LAFAN1's benchmark tests on those of `subject5`.
        gap: frames left out on both sides of a stretch held out by time; None means `window`.
        split_seed: the seed of the choice of what is held out.
        strict: stop at the first file that cannot be read, instead of skipping it.
    """

    source: str = ""
    columns: str = ""
    urdf: str = ""
    rate: float | None = None
    resample: float | None = None
    skip_frames: int | None = None
    up: Up | None = None
    unit_cm: float | None = None
    label: str = ""
    window: int = 64
    stride: int | None = None
    clip: int | None = None
    hold_out: Literal["sequence", "time"] = "sequence"
    validation: float = 0.1
    test: float = 0.1
    test_files: str = ""
    gap: int | None = None
    split_seed: int = 0
    strict: bool = False

    def __post_init__(self) -> None:
        if not self.source:
            raise DataError("data.source is not set: give the folder of BVH files or tables with --data FOLDER")
        require_at_least(self, {"window": 4, "stride": 1, "clip": 4, "gap": 0, "split_seed": 0, "skip_frames": 0})
        require_positive(self, ("rate", "resample", "unit_cm"))
        require_shares(self)
        require_rest(self)
        for name, expression in {"label": self.label, "test_files": self.test_files}.items():
            try:
                re.compile(expression)
            except re.error as error:
                message = f"data.{name} is {expression!r}, which is not a regular expression: {error}"
                raise DataError(message) from error
