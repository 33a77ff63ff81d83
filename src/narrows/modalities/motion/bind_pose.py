"""The bind pose at the start of some BVH files, from which the figure jumps into the motion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from narrows.modalities.motion.bvh import Bvh

__all__ = ["bind_pose_frames"]

MOST = 8
"""The most frames that a bind pose, and a blend from it into the motion, may have."""
COMPARED = 32
"""Number of frames after them that the jump is compared with."""
LARGER = 2.5
"""How many times as far as in any of those frames the joints move in a bind pose and the blend from it."""


def bind_pose_frames(clip: Bvh) -> int:
    """Return how many frames at the start are a bind pose or a blend from it into the motion; 0 for most files.

    The figure leaves them in a jump: from one frame to the next, its joints move more than 2.5 times as far as anywhere
    in the frames 8 to 40. Clips too short to tell have none.
    """
    if len(clip.values) < MOST + COMPARED // 2:
        return 0
    positions = replace(clip, values=clip.values[: MOST + COMPARED]).pose().positions
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=2).mean(1)
    jumps = np.flatnonzero(steps[:MOST] > LARGER * steps[MOST:].max())
    return int(jumps[-1]) + 1 if len(jumps) else 0
