"""Curves of time series without kinematics."""

import re
from pathlib import Path

import numpy as np

from narrows.modalities.motion.dataset import open_motion
from narrows.modalities.motion.settings import MotionSettings
from narrows.modalities.motion.shown import shown
from narrows.modalities.motion.tables import Table, write_table
from narrows.report.page import Figure
from narrows.report.svg import HUES


def test_an_original_and_as_many_versions_as_a_comparison_has(tmp_path: Path) -> None:
    """Their curves differ in colour."""
    values = np.random.default_rng(0).normal(size=(40, 1)).cumsum(0)
    write_table(tmp_path / "a.csv", Table(("x",), values))
    data = open_motion(MotionSettings(str(tmp_path), rate=10, window=16, validation=0, test=0), quiet=True)
    versions = {"original": data.train[0], **{f"method {number}": data.train[0] for number in range(len(HUES))}}
    block = shown([versions], data.spec, "Versions.")
    assert isinstance(block, Figure)
    found = re.findall(r"var\(--(method-\d+|muted)\)", block.svg)
    assert set(found) == {"muted", *(f"method-{number}" for number in range(1, 11))}
    single = shown([{"a": data.train[0]}], data.spec, "One.")
    assert isinstance(single, Figure)
    assert "var(--method-1)" in single.svg
