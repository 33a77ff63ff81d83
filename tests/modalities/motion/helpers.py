"""Small motions made for tests: a walker of five joints, and a robot arm as a table."""

from pathlib import Path

import numpy as np

from narrows.modalities.motion.bvh import Bvh, write_bvh
from narrows.modalities.motion.skeleton import EndSite, Skeleton
from narrows.modalities.motion.tables import Table, write_table

ROTATIONS = ("Zrotation", "Xrotation", "Yrotation")
CHANNELS = (("Xposition", "Yposition", "Zposition", *ROTATIONS), *[ROTATIONS] * 4)
WALKER = Skeleton(
    ("hips", "leftLeg", "leftFoot", "rightLeg", "rightFoot"),
    (-1, 0, 1, 0, 3),
    np.array([[0, 90, 0], [10, 0, 0], [0, -40, 0], [-10, 0, 0], [0, -40, 0.0]]),
    (EndSite(2, (0, 0, 10)), EndSite(4, (0, 0, 10))),
)
URDF = """<robot name="arm">
  <link name="base"/><link name="upper"/><link name="hand"/>
  <joint name="shoulder_joint" type="continuous">
    <parent link="base"/><child link="upper"/><axis xyz="0 0 1"/>
  </joint>
  <joint name="elbow_joint" type="revolute">
    <parent link="upper"/><child link="hand"/><origin xyz="1 0 0"/><axis xyz="0 0 1"/><limit lower="-2" upper="2"/>
  </joint>
</robot>"""
"""An arm that turns about z at the origin, with a hand 1 m away."""


def walker(frames: int, rate: float = 30.0, phase: float = 0.0, skeleton: Skeleton = WALKER) -> Bvh:
    """A walk with one step a second, along z and slowly turning; at any rate the same motion."""
    time = np.arange(frames) / rate
    swing = 30 * np.sin(2 * np.pi * time + phase)
    values = np.zeros((frames, 3 + 3 * 5))
    values[:, 1] = 90 + np.cos(4 * np.pi * time)
    values[:, 2] = 100 * time
    values[:, 5] = 10 * time
    for joint, angle in ((1, swing), (2, np.maximum(0, -swing)), (3, -swing), (4, np.maximum(0, swing))):
        values[:, 3 + 3 * joint + 1] = angle
    return Bvh(skeleton, CHANNELS, 1 / rate, values)


def write_walks(folder: Path, frames: int = 80) -> Path:
    """Six files with LAFAN1's names, of two actions."""
    for number in range(1, 4):
        for action, rate in (("walk", 30.0), ("run", 12.0)):
            clip = walker(frames + 8 * number, rate, number)
            write_bvh(folder / f"{action}{number}_subject{number}.bvh", Bvh(WALKER, CHANNELS, 1 / 30, clip.values))
    return folder


def write_arms(folder: Path, frames: int = 80) -> Path:
    """Six tables with a header, in two folders, and the robot's file beside them."""
    (folder / "arms").mkdir(parents=True)
    (folder / "arm.urdf").write_text(URDF)
    time = np.arange(frames) / 20
    for number in range(6):
        angles = [2 * time + number, np.sin(3 * time + number)]
        table = Table(("time", "shoulder", "elbow"), np.stack([time, *angles], 1))
        write_table(folder / "arms" / ("slow" if number % 2 else "fast") / f"{number}.csv", table)
    (folder / "arms" / "columns.txt").write_text("time, time, s\nshoulder\nelbow\n")
    return folder / "arms"
