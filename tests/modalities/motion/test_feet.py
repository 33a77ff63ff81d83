"""Feet by their names, and how far they slide, against values computed by hand."""

from dataclasses import replace

import numpy as np
import pytest

from narrows.modalities.motion.bvh import Bvh
from narrows.modalities.motion.errors import motion_errors
from narrows.modalities.motion.features import SkeletonLayout
from narrows.modalities.motion.feet import find_feet, foot_sliding
from narrows.modalities.motion.skeleton import EndSite, Skeleton
from narrows.modalities.motion.skeletons import BvhFormat, BvhReading
from tests.modalities.motion.helpers import CHANNELS, WALKER, walker

RATE = 20.0


def paths(*feet: tuple[float, float, float, float], frames: int = 9) -> np.ndarray:
    """Positions [T, F, 3] in cm of feet with a start (x, height, z) and a speed along z in cm per second."""
    time = np.arange(frames)[:, None] / RATE
    values = np.array(feet)
    along = values[:, 2] + time * values[:, 3]
    return np.stack([np.tile(values[:, 0], (frames, 1)), np.tile(values[:, 1], (frames, 1)), along], 2)


@pytest.mark.parametrize(
    "names",
    [
        ["LeftFoot", "RightToeBase"],
        ["lFoot", "rFoot"],
        ["LeftAnkle", "RightToe_End"],
        ["left_ankle_roll_link", "FOOT.R"],
    ],
)
def test_feet_have_usual_names(names: list[str]) -> None:
    assert find_feet(["hips", *names, "LeftLeg", "head"]) == [1, 2]


def test_what_is_no_foot() -> None:
    assert find_feet(["base_footprint", "LeftUpLeg", "torso_link", "RightHand", "footprint_link"]) == []


def test_a_foot_that_stands_does_not_slide() -> None:
    still = paths((0, 3, 0, 0))
    assert foot_sliding(still, still, "y", RATE) == (0, 0)


def test_a_reconstruction_that_slides_at_a_known_speed() -> None:
    """Along z at 0.5 m/s, whatever its height does, and whichever axis is up."""
    still, slides = paths((0, 3, 0, 0)), paths((0, 3, 0, 50))
    slides[:, :, 1] += 20 * np.arange(9)[:, None]
    assert foot_sliding(still, slides, "y", RATE) == (0, pytest.approx(0.5))
    still, slides = (part[:, :, [0, 2, 1]] for part in (still, slides))
    assert foot_sliding(still, slides, "z", RATE) == (0, pytest.approx(0.5))


def test_feet_in_the_air_or_swinging_do_not_count() -> None:
    """Of four feet, the third is 6 cm above the ground, and the fourth swings at 0.4 m/s."""
    original = paths((0, 0, 0, 10), (1, 4, 0, 20), (2, 6, 0, 0), (3, 0, 0, 40))
    made = paths((0, 0, 0, 0), (1, 4, 0, 60), (2, 6, 0, 500), (3, 0, 0, 500))
    assert foot_sliding(original, made, "y", RATE) == (pytest.approx(0.15), pytest.approx(0.3))


def test_a_foot_counts_only_while_it_stands() -> None:
    """It stands for the steps from frame 0 to 3, and is up from frame 4 on."""
    original, made = paths((0, 0, 0, 0)), paths((0, 0, 0, 0))
    original[4:, :, 1] = 30
    made[:, 0, 0] = [0, 1, 3, 6, 99, 99, 99, 99, 999]  # 1, 2 and 3 cm in a twentieth of a second
    assert foot_sliding(original, made, "y", RATE) == (0, pytest.approx(0.4))


def test_a_frame_far_below_the_ground_does_not_move_it() -> None:
    original, made = paths((0, 3, 0, 0), frames=60), paths((0, 3, 0, 20), frames=60)
    original[30, :, 1] = -40
    assert foot_sliding(original, made, "y", RATE) == (0, pytest.approx(0.2))


def test_motions_in_which_no_foot_stands() -> None:
    runs = paths((0, 0, 0, 300))
    assert np.isnan(foot_sliding(runs, paths((0, 0, 0, 0)), "y", RATE)).all()
    assert np.isnan(foot_sliding(runs[:1], runs[:1], "y", RATE)).all()


def form_of(skeleton: Skeleton) -> BvhFormat:
    clip = Bvh(skeleton, CHANNELS, 1 / RATE, np.zeros((0, 18)))
    return BvhFormat(SkeletonLayout(clip), 2.5, BvhReading())


def standing(skeleton: Skeleton) -> Bvh:
    values = np.zeros((9, 18))
    values[:, 1] = 90
    return Bvh(skeleton, CHANNELS, 1 / RATE, values)


def test_figures_of_a_skeleton_are_those_on_its_own_path() -> None:
    """The root of the reconstruction moves by 10 units of 2.5 cm a second."""
    form = form_of(WALKER)
    x = form.features(standing(WALKER)).astype(np.float64)
    y = x.copy()
    y[:, 0] += 10
    figures = motion_errors(x, y, form, 4)
    assert figures["foot_sliding"] == pytest.approx(0.25)
    assert figures["original_foot_sliding"] == pytest.approx(0, abs=1e-6)


def test_end_sites_of_feet_are_on_the_ground_too() -> None:
    """Toes hang 20 units below feet, so that only they are near the ground; the feet turn by 1 degree a frame."""
    low = replace(WALKER, ends=(EndSite(2, (0, -20, 0)), EndSite(4, (0, -20, 0)), EndSite(0, (0, -500, 0))))
    form = form_of(low)
    clip = standing(low)
    turned = clip.values.copy()
    turned[:, [3 + 3 * 2 + 1, 3 + 3 * 4 + 1]] = np.arange(9)[:, None]
    x, y = (form.features(replace(clip, values=part)).astype(np.float64) for part in (clip.values, turned))
    moved = form.moved(x)
    assert moved.feet is not None
    assert moved.feet.shape == (9, 4, 3)
    expected = 20 * np.sin(np.deg2rad(8)) / 8 * 2.5 / 100 * RATE
    assert motion_errors(x, y, form, 4)["foot_sliding"] == pytest.approx(expected, rel=1e-3)


def test_a_skeleton_without_feet_has_no_such_figure() -> None:
    tail = replace(WALKER, joints=("hips", "a", "b", "c", "d"))
    x = form_of(tail).features(replace(walker(9, RATE), skeleton=tail)).astype(np.float64)
    figures = motion_errors(x, x, form_of(tail), 4)
    assert "jerk" in figures
    assert not {"foot_sliding", "original_foot_sliding"} & figures.keys()
