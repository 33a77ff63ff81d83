import json
import logging
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from narrows.data import BatchPlan, DataError
from narrows.errors import NarrowsError
from narrows.modalities.motion.bvh import Bvh, read_bvh, write_bvh
from narrows.modalities.motion.dataset import MotionData, open_motion
from narrows.modalities.motion.modality import MODALITY
from narrows.modalities.motion.motions import Motions
from narrows.modalities.motion.rotations import rotation_angle
from narrows.modalities.motion.settings import MotionSettings
from narrows.modalities.motion.skeleton import Skeleton
from narrows.modalities.motion.standardised import Standardised, statistics
from narrows.modalities.motion.tables import Table, read_table, write_table
from tests.modalities.motion.helpers import CHANNELS, URDF, WALKER, walker, write_arms, write_walks


def opened(folder: Path, **settings: object) -> MotionData:
    given = {"source": str(folder), "window": 16, "validation": 0.0, "test": 0.0, **settings}
    return open_motion(MotionSettings(**given))  # type: ignore[arg-type]


def frames_of(motions: Motions, stride: int) -> list[tuple[int, int]]:
    """The sequence and the frame at which each training window starts."""
    which, starts = replace(motions, stride=stride).starts
    return list(zip(motions.sources[which].tolist(), (motions.begins[which] + starts).tolist(), strict=True))


def test_features_are_standardised_by_the_training_part(tmp_path: Path) -> None:
    data = opened(write_walks(tmp_path), hold_out="time", validation=0.2, test=0.2)
    x = torch.cat([data.train[index] for index in range(len(data.train))], 1)
    constant = torch.from_numpy(data.scale.std == 1)
    torch.testing.assert_close(x.mean(1), torch.zeros(len(x)), rtol=0, atol=1e-3)
    torch.testing.assert_close(x.std(1)[~constant], torch.ones(int((~constant).sum())), rtol=0, atol=1e-2)
    assert x[constant].abs().max() < 1e-4
    assert data.spec.bounds is None
    assert (data.spec.rate, data.spec.variable, data.spec.shape) == (pytest.approx(30), True, (10 + 24, 16))


def test_constant_features_are_not_divided() -> None:
    features = np.stack([np.full(9, 3.0), np.arange(9.0), 1e-15 * np.arange(9), 1 + 1e-6 * np.arange(9)], 1)
    mean, std = statistics(features.astype(np.float32))
    np.testing.assert_allclose(mean, [3, 4, 0, 1], atol=1e-5)
    np.testing.assert_allclose(std, [1, np.arange(9).std(), 1, 1])


def test_details_are_json_from_which_files_are_read_and_written_alike(tmp_path: Path) -> None:
    for folder, suffix in ((write_walks(tmp_path / "walks"), ".bvh"), (write_arms(tmp_path / "robot"), ".csv")):
        data = opened(folder, urdf=str(tmp_path / "robot" / "arm.urdf") if suffix == ".csv" else "")
        scale = Standardised.of(json.loads(json.dumps(data.spec.details)))
        (file, *_) = sorted(folder.rglob(f"*{suffix}"))
        features = scale.format.read(file)
        torch.testing.assert_close(scale.to_x(features), data.train[0], rtol=0, atol=1e-6)
        scale.format.write(tmp_path / f"again{suffix}", scale.to_features(scale.to_x(features)))
        np.testing.assert_allclose(scale.format.read(tmp_path / f"again{suffix}"), features, atol=2e-5)


def test_motions_written_start_at_the_origin_and_are_the_same_otherwise(tmp_path: Path) -> None:
    folder = write_walks(tmp_path / "walks")
    data = opened(folder)
    original = read_bvh((folder / "run1_subject1.bvh").read_bytes())
    data.scale.format.write(tmp_path / "a.bvh", data.scale.to_features(data.train[0]))
    found = read_bvh((tmp_path / "a.bvh").read_bytes())
    assert rotation_angle(found.rotations(), original.rotations()).max() < 0.01
    moved = original.pose().positions - original.pose().positions[:1, :1] * [1, 0, 1]
    np.testing.assert_allclose(found.pose().positions, moved, atol=0.01)
    assert data.train.name(0) == "run1_subject1"


@pytest.mark.parametrize("clip", [None, 10, 16, 27])
def test_training_windows_do_not_depend_on_the_clips(tmp_path: Path, clip: int | None) -> None:
    whole, data = opened(write_walks(tmp_path)), opened(tmp_path, clip=clip)
    assert sum(data.train.lengths) == sum(whole.train.lengths)
    assert frames_of(data.train, 5) == frames_of(whole.train, 5)
    which, starts = data.train.starts
    expected = whole.train.windows(*whole.train.starts)
    for found, part in zip(data.train.windows(which, starts), expected, strict=True):
        np.testing.assert_array_equal(found, part)


def test_clips_are_adjacent_and_named_by_their_first_frame(tmp_path: Path) -> None:
    write_bvh(tmp_path / "a.bvh", walker(66))
    data = opened(tmp_path, clip=16)
    # The last two frames are too few for a clip of their own.
    assert data.train.lengths.tolist() == [16, 16, 16, 18]
    assert data.train.names == [f"a at frame {begin}" for begin in (0, 16, 32, 48)]
    assert opened(tmp_path).train.names == ["a"]
    assert [len(stored[0]) for stored in data.train.whole(2)] == [2, 1, 1]


def test_windows_of_a_subset_do_not_leave_their_clips(tmp_path: Path) -> None:
    data = opened(write_walks(tmp_path), clip=16)
    part = data.train._at(np.array([3, 2, 0]))
    values, lengths, _ = part.windows(*part.starts)
    assert lengths.tolist() == [16, 16, 16]
    np.testing.assert_array_equal(values, np.stack([part.stored(index) for index in range(3)]))


def test_short_sequences_give_one_window_that_is_masked(tmp_path: Path) -> None:
    write_bvh(tmp_path / "a.bvh", walker(9))
    data = opened(tmp_path)
    loader = data.train.batches(BatchPlan(1))
    batch = data.train.batch(*next(loader))
    loader.close()
    assert batch.x.shape == (1, 34, 16)
    assert batch.mask is not None
    assert batch.mask.sum() == 9
    assert (batch.x[:, :, 9:] == 0).all()
    assert batch.condition is None


def test_every_window_is_used_once_in_an_epoch(tmp_path: Path) -> None:
    write_bvh(tmp_path / "a.bvh", walker(40))
    data = opened(tmp_path, stride=8)
    loader = data.train.batches(BatchPlan(1, seed=3))
    first = [float(window[0, 0, 4]) for window, _, _ in islice(loader, 4)]
    loader.close()
    assert sorted(first) == sorted(float(data.train.values[start, 4]) for start in (0, 8, 16, 24))
    with pytest.raises(DataError, match="batch_size is 5, but there are only 4 windows"):
        data.train.batches(BatchPlan(5))


def test_whole_sequences_are_held_out_by_name(tmp_path: Path) -> None:
    for number in range(30):
        write_bvh(tmp_path / f"{number}.bvh", walker(20))
    data = opened(tmp_path, validation=0.2, test=0.2, clip=10)
    parts = [{name.split(" ")[0] for name in part.names} for part in (data.train, data.validation, data.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 30
    assert all(len(part) > 1 for part in parts)
    write_bvh(tmp_path / "another.bvh", walker(20))
    again = opened(tmp_path, validation=0.2, test=0.2)
    assert {*parts[2]} <= set(again.test.names)
    assert data.digest["train"]["examples"] == len(parts[0])


@pytest.mark.parametrize("gap", [None, 0, 7])
def test_stretches_held_out_by_time_are_apart_by_the_gap(tmp_path: Path, gap: int | None) -> None:
    write_bvh(tmp_path / "a.bvh", walker(400))
    data = opened(tmp_path, hold_out="time", validation=0.1, test=0.1, gap=gap)
    found = sorted(
        (int(part.begins[index]), int(part.begins[index] + part.lengths[index]))
        for part in (data.train, data.validation, data.test)
        for index in range(len(part))
    )
    assert all(later[0] - earlier[1] == (16 if gap is None else gap) for earlier, later in pairwise(found))
    assert data.validation.lengths.tolist() == data.test.lengths.tolist() == [2 * 16]
    assert len(data.all) == len(found)


def test_an_empty_split_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_bvh(tmp_path / "a.bvh", walker(40))
    with caplog.at_level(logging.WARNING):
        opened(tmp_path, test=1e-9)
    assert "no sequence is held out for test: raise data.test" in caplog.text
    with pytest.raises(DataError, match="no motion is left to train on"):
        opened(tmp_path, test=0.999)


def test_classes_are_actions_or_folders_or_what_an_expression_finds(tmp_path: Path) -> None:
    data = opened(write_walks(tmp_path / "a"))
    assert data.classes == ["run", "walk"]
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert opened(write_arms(tmp_path / "b")).classes == ["fast", "slow"]
    assert opened(tmp_path / "a", label=r"subject\d").classes == ["subject1", "subject2", "subject3"]
    assert opened(tmp_path / "a", label=r"(\d)_subject").classes == ["1", "2", "3"]
    assert opened(tmp_path / "a", label="subject").classes == []
    with pytest.raises(DataError, match=r"which gives no class for run2_subject2\.bvh"):
        opened(tmp_path / "a", label="subject[13]")


@pytest.mark.parametrize("hold_out", ["sequence", "time"])
def test_a_subject_is_held_out_by_the_paths_of_its_files(tmp_path: Path, hold_out: str) -> None:
    """No other file is tested on, and the splits of the others are as without it."""
    write_walks(tmp_path)
    data = opened(tmp_path, test_files="subject2", test=0.3, validation=0.3, hold_out=hold_out, clip=30)
    names = {split: {name.partition(" at ")[0] for name in getattr(data, split).names} for split in ("train", "test")}
    assert names["test"] == {"run2_subject2", "walk2_subject2"}
    assert data.test.lengths.sum() == 2 * 96
    assert not any("subject2" in name for name in [*data.train.names, *data.validation.names])
    (tmp_path / "run2_subject2.bvh").unlink()
    (tmp_path / "walk2_subject2.bvh").unlink()
    others = opened(tmp_path, validation=0.3, hold_out=hold_out, clip=30)
    assert others.train.names == data.train.names
    assert others.validation.names == data.validation.names
    assert "sequences of 2 classes by 2 subjects for training" in MODALITY.describe(others, others.spec)
    assert len(opened(tmp_path, test_files="subject1", test=0.0).test) == 2
    assert opened(tmp_path, test_files="walk1_").summary.endswith("; tested on those that match 'walk1_'")
    assert MODALITY.overrides_of_another_source({"test_files": "subject1"}) == ["--data.test_files="]
    with pytest.raises(DataError, match=r"'subject9', which matches no file, such as \w+_subject1.bvh"):
        opened(tmp_path, test_files="subject9")
    with pytest.raises(DataError, match="no motion is left to train on"):
        opened(tmp_path, test_files="subject", test=0.1)
    with pytest.raises(DataError, match=r"data.test_files is '\(', which is not a regular expression"):
        MotionSettings(str(tmp_path), test_files="(")


def test_a_class_that_is_only_held_out_is_none_of_the_model(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_bvh(write_walks(tmp_path) / "jump1_subject1.bvh", walker(40))
    settings = ({"test": 0.2, "split_seed": seed} for seed in range(99))
    chosen = next(one for one in settings if "jump1_subject1" in opened(tmp_path, **one).test.names)
    caplog.clear()
    data = opened(tmp_path, **chosen)
    assert data.classes == list(data.spec.classes) == ["run", "walk"]
    assert set(data.train.labels) == {0, 1}
    labels = dict(zip(data.test.names, data.test.labels.tolist(), strict=True))
    assert labels["jump1_subject1"] == -1
    assert {label for name, label in labels.items() if name.startswith("walk")} <= {1}
    assert "classes that the model is not trained on, whose motions count as of unknown class: 1\n  jump" in caplog.text
    assert " of 2 classes by " in MODALITY.describe(data, data.spec)
    older = replace(data.spec, classes=("jump", "run", "walk"))
    found = open_motion(MotionSettings(str(tmp_path), window=16, validation=0, **chosen), spec=older).test  # type: ignore[arg-type]
    assert found.labels[found.names.index("jump1_subject1")] == 0
    assert "classes of the model that no training sequence has, so it never learnt them: 1\n  jump" in caplog.text
    again = data.test.numbered(["hop", "run", "walk"])
    assert dict(zip(again.names, again.labels.tolist(), strict=True)) == {
        name: label if label < 0 else label + 1 for name, label in labels.items()
    }


def test_a_model_keeps_its_classes(tmp_path: Path) -> None:
    """Those of other data may be more, fewer, or one."""
    spec = replace(opened(write_walks(tmp_path / "a")).spec, classes=("hop", "run", "walk"))
    for name in ("walk7", "jump1"):
        write_bvh(tmp_path / "b" / f"{name}_subject1.bvh", walker(40))
    for source, expected in (("a", [1, 1, 1, 2, 2, 2]), ("b", [-1, 2]), ("b/walk7_subject1.bvh", [2])):
        data = open_motion(MotionSettings(str(tmp_path / source), test=0, validation=0), spec=spec)
        assert data.classes == ["hop", "run", "walk"]
        assert data.train.labels.tolist() == expected
    data = open_motion(MotionSettings(str(tmp_path / "a")), spec=replace(spec, classes=()))
    assert data.classes == []
    assert set(data.all.labels) == {-1}


def test_files_with_another_skeleton_are_skipped_and_its_joints_named(tmp_path: Path) -> None:
    folder = write_walks(tmp_path)
    other = Skeleton(("hips", "tail", "leftFoot", "rightLeg", "rightFoot"), WALKER.parents, WALKER.offsets)
    write_bvh(folder / "a1_subject1.bvh", Bvh(other, CHANNELS, 1 / 30, walker(30).values))
    data = opened(folder)
    (skipped,) = data.skipped
    assert skipped[0].endswith("a1_subject1.bvh")
    assert "a skeleton without leftLeg, with unknown tail" in skipped[1]
    assert data.classes == ["run", "walk"]
    with pytest.raises(DataError, match=r"without leftLeg.*set data.strict=false"):
        opened(folder, strict=True)
    with pytest.raises(NarrowsError, match="describe no motion"):
        Standardised.of({**data.spec.details, "up": None, "hierarchy": 3})
    with pytest.raises(NarrowsError, match="mean and std are not 34 numbers"):
        Standardised.of({**data.spec.details, "mean": [0.0]})


def test_files_with_another_rate_are_skipped_or_converted(tmp_path: Path) -> None:
    write_bvh(tmp_path / "a.bvh", walker(61, 60))
    write_bvh(tmp_path / "b.bvh", walker(31, 30))
    write_bvh(tmp_path / "c.bvh", walker(31, 30))
    data = opened(tmp_path)
    assert data.train.names == ["b", "c"]
    assert "60 frames per second, but the model's motions 30" in data.skipped[0][1]
    data = opened(tmp_path, resample=30)
    assert data.train.lengths.tolist() == [31, 31, 31]
    np.testing.assert_allclose(data.train.stored(0), data.train.stored(1), atol=1e-3)
    assert opened(tmp_path, rate=24).spec.rate == pytest.approx(24)


def test_a_resampled_motion_is_the_motion_between_its_frames(tmp_path: Path) -> None:
    write_bvh(tmp_path / "a.bvh", walker(121, 120))
    data = opened(tmp_path, resample=50)
    data.scale.format.write(tmp_path / "b.bvh", data.scale.to_features(data.train[0]))
    found, exact = read_bvh((tmp_path / "b.bvh").read_bytes()), walker(51, 50)
    assert rotation_angle(found.rotations(), exact.rotations()).max() < 0.5
    np.testing.assert_allclose(found.pose().positions, exact.pose().positions, atol=0.5)


def test_a_bind_pose_at_the_start_is_left_out_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clip = walker(60)
    values = np.concatenate([np.zeros((2, 18)), clip.values])
    write_bvh(tmp_path / "a.bvh", replace(clip, values=values))
    with caplog.at_level(logging.WARNING):
        data = opened(tmp_path)
    assert data.train.lengths.tolist() == [60]
    assert "bind poses left out (data.skip_frames=0 keeps them): 1\n  a.bvh: 2 frames" in caplog.text
    assert opened(tmp_path, skip_frames=0).train.lengths.tolist() == [62]
    assert opened(tmp_path, skip_frames=5).train.lengths.tolist() == [57]
    # A model reads files as its training did.
    caplog.clear()
    (x,) = MODALITY.read([tmp_path / "a.bvh"], data.spec)
    assert x.shape[1] == 60
    assert "a.bvh: a bind pose at its start was left out: 2 frames" in caplog.text
    caplog.clear()
    write_bvh(tmp_path / "b.bvh", clip)
    MODALITY.read([tmp_path / "b.bvh"], data.spec)
    assert caplog.text == ""


def test_files_without_frames_are_skipped(tmp_path: Path) -> None:
    write_bvh(tmp_path / "a" / "a.bvh", walker(60))
    write_bvh(tmp_path / "a" / "b.bvh", walker(20))
    write_bvh(tmp_path / "a" / "c.bvh", walker(0))
    names = ("x", "y", "z", "qx", "qy", "qz", "qw")
    for name, rows in (("a", 20), ("b", 60)):
        write_table(tmp_path / "b" / f"{name}.csv", Table(names, np.tile([0.0, 0, 1, 0, 0, 0, 1], (rows, 1))))
    for folder, settings, kept, reasons in (
        ("a", {}, ["a", "b"], ["it has no frames"]),
        ("a", {"skip_frames": 30}, ["a"], ["data.skip_frames=30 leaves out", "it has no frames"]),
        ("a", {"skip_frames": 30, "resample": 15}, ["a"], ["it has 20 frames, all of which", "it has no frames"]),
        ("b", {"skip_frames": 20, "rate": 30}, ["b"], ["it has 20 frames, all of which"]),
    ):
        data = opened(tmp_path / folder, **settings)
        assert data.train.names == kept
        assert all(expected in reason for expected, (_, reason) in zip(reasons, data.skipped, strict=True))
    spec = opened(tmp_path / "a").spec
    with pytest.raises(DataError, match=r"c\.bvh: it has no frames"):
        MODALITY.read([tmp_path / "a" / "c.bvh"], spec)


def test_tables_know_their_rate_by_a_column_or_a_setting(tmp_path: Path) -> None:
    folder = write_arms(tmp_path)
    data = opened(folder)
    assert data.spec.rate == pytest.approx(20)
    assert data.spec.shape[0] == 2
    assert opened(folder, rate=10).spec.rate == 10
    (folder / "columns.txt").write_text("shoulder\nelbow\n")
    with pytest.raises(DataError, match=r"its frame rate is unknown: set data.rate"):
        opened(folder)
    robot = opened(folder, rate=20, urdf=str(tmp_path / "arm.urdf"))
    # The shoulder turns without end: cosine and sine.
    assert robot.spec.shape[0] == 3
    assert robot.scale.format.moved(robot.train.stored(0)).positions.shape == (80, 3, 3)  # type: ignore[union-attr]


def test_a_robot_whose_files_are_in_centimetres(tmp_path: Path) -> None:
    """Its links, from the URDF file, are in metres whatever the unit of the files."""
    (tmp_path / "arm.urdf").write_text(URDF)
    names = (*(f"root_{part}" for part in ("x", "y", "z", "qx", "qy", "qz", "qw")), "shoulder", "elbow")
    found = {}
    for unit_cm in (1.0, 100.0):
        values = np.tile([0, 0, 1, 0, 0, 0, 1, 0.5, 0.0], (40, 1))
        values[:, 0] = np.arange(40) / 20
        values[:, :3] *= 100 / unit_cm
        write_table(tmp_path / f"{unit_cm}" / "a.csv", Table(names, values))
        data = opened(tmp_path / f"{unit_cm}", rate=20, urdf=str(tmp_path / "arm.urdf"), unit_cm=unit_cm)
        form, features = data.scale.format, data.train.stored(0).astype(np.float64)
        figure = form.figure("a", features)
        assert figure is not None
        found[unit_cm] = form.moved(features).positions
        np.testing.assert_allclose(100 * figure.positions, found[unit_cm], atol=1e-3)
    base, elbow, hand = found[1.0][-1]
    np.testing.assert_allclose(base, [195, 0, 100], atol=1e-3)
    np.testing.assert_allclose(elbow, base, atol=1e-3)
    np.testing.assert_allclose(hand - elbow, [100 * np.cos(0.5), 100 * np.sin(0.5), 0], atol=1e-3)
    np.testing.assert_allclose(found[1.0], found[100.0], atol=1e-3)


def test_joints_in_degrees(tmp_path: Path) -> None:
    (tmp_path / "arm.urdf").write_text(URDF)
    write_table(tmp_path / "a" / "a.csv", Table(("shoulder", "elbow"), np.tile([90.0, 45], (20, 1))))
    (tmp_path / "a" / "columns.txt").write_text("shoulder, value, deg\nelbow, value, deg\n")
    data = opened(tmp_path / "a", rate=10, urdf=str(tmp_path / "arm.urdf"))
    moved = data.scale.format.moved(data.train.stored(0).astype(np.float64))
    assert moved.positions is not None
    np.testing.assert_allclose(moved.positions[0, 2], [0, 100, 0], atol=1e-3)
    (tmp_path / "a" / "columns.txt").write_text("shoulder, value, turns\nelbow, value, deg\n")
    with pytest.raises(DataError, match=r"column 'shoulder' has the angles of a joint, whose unit is rad or deg, not"):
        opened(tmp_path / "a", rate=10, urdf=str(tmp_path / "arm.urdf"))


def test_columns_of_text_that_are_not_described(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("task,x,y\n" + "walk,1,2\n" * 20)
    (tmp_path / "columns.txt").write_text("y\nx\n")
    data = opened(tmp_path, rate=10)
    np.testing.assert_array_equal(data.train.stored(0), [[2, 1]] * 20)
    data.scale.format.write(tmp_path / "out.csv", data.train.stored(0))
    assert read_table(tmp_path / "out.csv").names == ("y", "x")


def test_tables_without_names_are_written_without_them(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1.5,2\n" * 20)
    (tmp_path / "columns.txt").write_text("x\ny\n")
    data = opened(tmp_path, rate=10)
    data.scale.format.write(tmp_path / "out.csv", data.train.stored(0))
    assert read_table(tmp_path / "out.csv").names == ()


@pytest.mark.parametrize("rows", [100, 1000])
def test_clocks_that_jitter_have_the_same_rate(tmp_path: Path, rows: int) -> None:
    """Logs at 100 Hz, whose times are off by up to half a millisecond."""
    generator = np.random.default_rng(0)
    (tmp_path / "columns.txt").write_text("t, time\nv\n")
    for number in range(6):
        time = 1e9 + np.arange(rows) / 100 + generator.uniform(-5e-4, 5e-4, rows)
        write_table(tmp_path / f"{number}.csv", Table(("t", "v"), np.stack([time, np.sin(time)], 1)))
    data = opened(tmp_path)
    assert len(data.train) == 6
    assert data.spec.rate == pytest.approx(100, rel=1e-3 if rows == 100 else 1e-4)


def test_the_most_frequent_columns_and_rate_are_those_of_the_data(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(20, 2))
    write_table(tmp_path / "0.csv", Table(("foreign",), values[:, :1]))
    for number in range(1, 6):
        time = np.arange(20) / (30 if number == 1 else 60)
        names = ("time", "y", "x") if number == 2 else ("time", "x", "y")
        write_table(
            tmp_path / f"{number}.csv", Table(names, np.column_stack([time, values[:, :: -1 if number == 2 else 1]]))
        )
    data = opened(tmp_path, rate=60)
    assert data.train.names == ["1", "2", "3", "4", "5"]
    (tmp_path / "columns.txt").write_text("time, time\nx\ny\n")
    data = opened(tmp_path)
    assert data.train.names == ["2", "3", "4", "5"]
    assert data.spec.rate == pytest.approx(60)
    assert [reason for _, reason in data.skipped] == [
        "it has no column 'time', only foreign",
        "it has 30 frames per second, but the model's motions 60",
    ]
    for index in range(4):
        np.testing.assert_allclose(data.train.stored(index), values, rtol=1e-6)


def test_tables_without_a_description_have_the_columns_of_the_first(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(30, 3))
    write_table(tmp_path / "a.npz", Table(("x", "y", "z"), values))
    write_table(tmp_path / "b.parquet", Table(("z", "y", "x"), values))
    write_table(tmp_path / "c.csv", Table(("x", "y"), values[:, :2]))
    data = opened(tmp_path, rate=10)
    np.testing.assert_allclose(data.train.stored(1), values[:, ::-1], rtol=1e-6)
    assert "it has no column 'z'" in data.skipped[0][1]
    data.scale.format.write(tmp_path / "out.csv", data.train.stored(0))
    assert read_table(tmp_path / "out.csv").names == ("x", "y", "z")


def test_uneven_times_are_refused_or_converted(tmp_path: Path) -> None:
    time = np.array([0, 0.1, 0.2, 0.3, 0.6, 0.7, 0.8])
    write_table(tmp_path / "a.csv", Table(("t", "v"), np.stack([time, 2 * time], 1)))
    (tmp_path / "columns.txt").write_text("t, time\nv\n")
    with pytest.raises(DataError, match=r"its times are not even \(row 5\): set data.resample"):
        opened(tmp_path)
    data = opened(tmp_path, resample=20)
    np.testing.assert_allclose(data.train.values[:, 0], np.arange(17) * 0.1, atol=1e-6)
    write_table(tmp_path / "a.csv", Table(("t", "v"), np.stack([time[::-1], time], 1)))
    with pytest.raises(DataError, match="its times do not rise"):
        opened(tmp_path)


def test_quaternions_are_normalised_and_said_and_refused_at_zero(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("x", "y", "z", "qx", "qy", "qz", "qw")
    good = np.tile([0, 0, 1, 0.0, 0, 0, 1], (40, 1))
    longer, zero = good.copy(), good.copy()
    longer[7, 6], zero[9, 6] = 2, 0
    for name, values in {"good": good, "longer": longer, "zero": zero}.items():
        write_table(tmp_path / f"{name}.csv", Table(names, values))
    data = open_motion(MotionSettings(str(tmp_path), rate=30, validation=0, test=0))
    assert data.train.names == ["good", "longer"]
    np.testing.assert_array_equal(data.train.stored(1), data.train.stored(0))
    assert "longer.csv: 1 quaternions are not of unit length; they were normalised" in caplog.text
    ((file, reason),) = data.skipped
    assert file.endswith("zero.csv")
    assert reason == "row 10: the quaternion qx, qy, qz, qw is zero, which is no rotation"


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        opened(tmp_path / "nothing")
    with pytest.raises(DataError, match=r"has no BVH files or tables \(.bvh, .csv"):
        opened(tmp_path)
    write_bvh(tmp_path / "a.bvh", walker(3))
    with pytest.raises(DataError, match="it has 3 frames; a sequence needs 4"):
        opened(tmp_path)
    (tmp_path / "a.bvh").write_text("nothing")
    with pytest.raises(DataError, match=r"no motion that can be read; the last: .*a\.bvh: it is not a BVH file"):
        opened(tmp_path)


def test_a_model_of_skeletons_reads_no_tables(tmp_path: Path) -> None:
    spec = opened(write_walks(tmp_path / "a")).spec
    settings = MotionSettings(source=str(write_arms(tmp_path / "b")))
    with pytest.raises(DataError, match=r"the model is of BVH files, but .* has tables"):
        open_motion(settings, spec=spec)
    other = open_motion(MotionSettings(source=str(tmp_path / "a"), test=0, validation=0, window=8), spec=spec)
    assert other.spec.details == spec.details


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": ""}, "data.source is not set"),
        ({"window": 3}, "data.window is 3: it must be at least 4"),
        ({"rate": 0.0}, "data.rate is 0.0: it must be a positive number"),
        ({"resample": float("nan")}, "data.resample is nan"),
        ({"validation": 1.0}, "data.validation is 1.0"),
        ({"validation": 0.5, "test": 0.5}, "hold out everything"),
        ({"label": "("}, "not a regular expression"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        MotionSettings(**{"source": "x", **settings})  # type: ignore[arg-type]
