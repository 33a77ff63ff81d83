"""Figures of reconstructions, against values computed by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from narrows.data import Spec
from narrows.modalities.motion.columns import Column
from narrows.modalities.motion.errors import motion_errors, smoothness
from narrows.modalities.motion.features import SkeletonLayout, TableLayout
from narrows.modalities.motion.formats import Format
from narrows.modalities.motion.modality import MODALITY
from narrows.modalities.motion.series import TableFormat, TableReading
from narrows.modalities.motion.skeletons import BvhFormat, BvhReading
from narrows.modalities.motion.standardised import Standardised
from tests.modalities.motion.helpers import URDF, walker

ARM = TableFormat(
    TableLayout([Column("shoulder", "wrapping angle"), Column("elbow", "angle", "deg")], 10.0),
    100.0,
    TableReading(rate=10.0),
    URDF,
)
SKELETON = BvhFormat(SkeletonLayout(replace(walker(1), values=walker(0).values)), 2.5, BvhReading())


def test_angle_and_position_errors_of_an_arm() -> None:
    """The elbow is off by 20 degrees, the shoulder by 60: the hand, 1 m away, is off by 1 m."""
    values = np.zeros((8, 2))
    other = np.tile([np.deg2rad(60), 20], (8, 1))
    x, y = (ARM.layout.features(part)[0].astype(np.float64) for part in (values, other))
    figures = motion_errors(x, y, ARM, 4)
    assert figures["joint_angle_error"] == pytest.approx(40)
    assert figures["joint_position_error"] == pytest.approx(100 / 3)
    assert figures["jerk"] == pytest.approx(0, abs=1e-3)
    assert "root_drift" not in figures


def test_angles_that_wrap_are_compared_the_short_way() -> None:
    x, y = (ARM.layout.features(np.array([[angle, 0.0]] * 4))[0] for angle in (3.1, -3.1))
    assert motion_errors(x, y, ARM, 4)["joint_angle_error"] == pytest.approx(np.rad2deg(2 * np.pi - 6.2) / 2, rel=1e-4)


def test_joint_errors_of_a_skeleton_do_not_count_where_the_root_goes() -> None:
    """The left leg is off by 90 degrees: only its foot, 40 units away, is elsewhere, by 40 sqrt(2) units of 2.5 cm."""
    clip = walker(20)
    values = clip.values.copy()
    values[:, 3 + 3 * 1 + 1] += 90
    values[:, 3 + 3 * 2 + 1] -= 90
    x, y = (SKELETON.features(replace(clip, values=part)).astype(np.float64) for part in (clip.values, values))
    y[:, [0, 1, 3]] += 5
    figures = motion_errors(x, y, SKELETON, 10)
    # Of five joints, two have turned, by 90 degrees each.
    assert figures["joint_angle_error"] == pytest.approx(2 * 90 / 5, rel=1e-3)
    assert figures["joint_position_error"] == pytest.approx(40 * np.sqrt(2) * 2.5 / 5, rel=1e-3)


def test_drift_is_the_distance_at_the_end_of_windows() -> None:
    """3 units a second sideways, for the 9 frames from the first to the last of a window."""
    clip = walker(25)
    x = SKELETON.features(replace(clip, values=clip.values * (np.arange(18) != 5))).astype(np.float64)
    y = x.copy()
    y[:, 0] += 3
    assert motion_errors(x, y, SKELETON, 10)["root_drift"] == pytest.approx(3 * 9 / 30 * 2.5)
    assert motion_errors(x, y, SKELETON, 99)["root_drift"] == pytest.approx(3 * 24 / 30 * 2.5)


def test_jerk_is_the_third_derivative() -> None:
    time = np.arange(12) / 20
    positions = np.zeros((12, 2, 3))
    positions[:, 0, 1] = 100 * time**3  # cm: 1 m/s^3 per t^3, thus 6 m/s^3
    assert smoothness(positions, 20) == pytest.approx(6 / 2)


@pytest.mark.parametrize("form", [ARM, SKELETON])
def test_a_perfect_reconstruction_has_no_errors(form: Format) -> None:
    scale = Standardised(form, np.zeros(form.size, np.float32), np.full(form.size, 2, np.float32))
    x = torch.randn(2, form.size, 9, generator=torch.Generator().manual_seed(0))
    figures = MODALITY.figures(x, x, Spec((form.size, 4), "motion", bounds=None, variable=True, details=scale.details))
    for name in ("joint_angle_error", "joint_position_error", "root_drift"):
        if name in figures:
            assert figures[name].tolist() == pytest.approx([0, 0], abs=1e-4)
    torch.testing.assert_close(figures["jerk"], figures["original_jerk"])
    assert set(figures) <= set(MODALITY.units)


def test_series_without_joints_have_no_such_figures() -> None:
    form = TableFormat(TableLayout([Column("a"), Column("b")], 10.0), 100.0, TableReading())
    assert motion_errors(np.zeros((5, 2)), np.ones((5, 2)), form, 4) == {}
