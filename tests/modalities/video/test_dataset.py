import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby, islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from narrows.data import BatchPlan, DataError
from narrows.modalities.video.action_lists import features_of_text
from narrows.modalities.video.actions import Actions
from narrows.modalities.video.clips import VideoClips
from narrows.modalities.video.cuts import find_cuts
from narrows.modalities.video.dataset import VideoData, open_video
from narrows.modalities.video.inverse_model import pairs_of
from narrows.modalities.video.modality import MODALITY
from narrows.modalities.video.settings import VideoSettings
from tests.modalities.video.helpers import column_of, numbered, walk, write_video, write_walks


def opened(source: Path, **settings: object) -> VideoData:
    given = {"source": str(source), "window": 4, "stride": 1, "validation": 0.0, "test": 0.0, **settings}
    return open_video(VideoSettings(**given))  # type: ignore[arg-type]


def windows(clips: VideoClips) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All training windows, frames [W, H, W, 3] and features [W, C]."""
    which, starts = clips.starts
    yield from zip(*clips.windows(which, starts), strict=True)


def test_features_are_those_of_the_action_that_led_to_a_frame(tmp_path: Path) -> None:
    """The square moves from frame t - 1 to frame t as the features of frame t say."""
    data = opened(write_walks(tmp_path / "a.npz"))
    assert data.spec.channels == 3
    moved = 0
    for index in range(len(data.train)):
        (frames, features) = next(data.train.taken(index).whole(1))
        assert features.shape == (1, 20, 3)
        assert (features[0, 0] == 0).all()  # nothing led to the first frame
        assert (features[0, 1:].sum(1) == 1).all()
        columns = [column_of(frame) for frame in frames[0].numpy()]
        for before, after, action in zip(columns, columns[1:], features[0, 1:].argmax(1).tolist(), strict=False):
            assert after == np.clip(before + (-2, 2, 0)[action], 0, 12)
            moved += after != before
    assert moved > 20
    batch = data.train.batch(*next(data.train.whole(2)))
    assert batch.features is not None
    assert batch.features.shape == (2, 3, 20, 1, 1)
    assert batch.x.shape == (2, 3, 20, 16, 16)
    assert torch.equal(batch.x[0, :, 3], torch.from_numpy(walk(20)[0][3]).permute(2, 0, 1) / 255)


def test_mirrored_clips_obey_swapped_actions(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The square of a mirrored walk goes left by action 0, too, if 0 and 1 are swapped."""
    walks = write_walks(tmp_path / "a.npz")
    data = open_video(
        VideoSettings(
            str(walks), window=4, stride=1, validation=0.3, test=0, mirror=True, mirror_actions=((0, 1),), clip=10
        )
    )
    assert "actions that stay the same in mirrored clips: 1\n  2" in caplog.text
    plain = opened(walks, validation=0.3, clip=10)
    for split in ("train", "validation", "all"):
        assert np.array_equal(data.split(split).values, plain.split(split).values)  # type: ignore[attr-defined]
    assert plain.augmented is plain.train
    both = data.augmented
    assert len(both.starts[0]) == 2 * len(plain.train.starts[0])
    assert both.names == [*plain.train.names, *(f"{name}, mirrored" for name in plain.train.names)]
    half = len(plain.train.values)
    assert np.array_equal(both.values[:half], plain.train.values)
    assert np.array_equal(both.values[half:, :, ::-1], plain.train.values)
    moved = 0
    for frames, features in windows(both):
        columns = [column_of(frame) for frame in frames]
        for before, after, feature in zip(columns, columns[1:], features[1:], strict=False):
            assert after == np.clip(before + (-2, 2, 0)[int(feature.argmax())], 0, 12)
            moved += after != before
    assert moved > 100
    assert "clips, also mirrored, with 3 actions" in MODALITY.describe(data, data.spec)
    assert "mirror" not in MODALITY.describe(plain, plain.spec)


def test_settings_of_mirrored_clips_that_cannot_be(tmp_path: Path) -> None:
    walks = write_walks(tmp_path / "a.npz")
    with pytest.raises(DataError, match=r"is for mirrored clips: also set data\.mirror=true"):
        opened(walks, mirror_actions=(("0", "1"),))
    with pytest.raises(DataError, match="has an action twice: 0, 1, 1, 2"):
        opened(walks, mirror=True, mirror_actions=((0, 1), ("1", 2)))
    with pytest.raises(DataError, match="'left' is no action; the data have 3 actions"):
        opened(walks, mirror=True, mirror_actions=(("left", "1"),))
    with pytest.raises(DataError, match="have actions of 2 numbers, which cannot be mirrored: leave it out"):
        opened(write_walks(tmp_path / "b.npz", actions=np.zeros((80, 2))), mirror=True)


def test_vectors_of_actions_are_standardised_and_a_zero_vector_is_no_unknown_action(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal([3, -1], [200, 0.01], (80, 2))
    vectors[25] = 0
    write_walks(tmp_path / "train.npz", actions=vectors)
    write_walks(tmp_path / "test.npz", actions=2 * vectors)
    data = opened(tmp_path)
    assert data.spec.channels == 3
    expected = (vectors - vectors.mean(0)) / vectors.std(0)
    for clips, actions in ((data.train, expected), (data.test, (2 * vectors - vectors.mean(0)) / vectors.std(0))):
        _, features = next(clips.taken(1).whole(1))
        np.testing.assert_allclose(features[0, 1:, 1:], actions[20:39], rtol=1e-4, atol=1e-4)
        assert (features[0, 1:, 0] == 1).all()
        assert (features[0, 0] == 0).all()
    assert len(pairs_of(data.train)) == 4 * 19
    known = Actions.of(json.loads(json.dumps(data.spec.details)))
    np.testing.assert_allclose(
        features_of_text("0:0,none", known), [[1, *-vectors.mean(0) / vectors.std(0)], [0, 0, 0]]
    )
    again = open_video(VideoSettings(str(tmp_path / "test.npz"), window=4, validation=0, test=0), spec=data.spec)
    np.testing.assert_array_equal(again.train.features, data.test.features)


def test_vectors_of_saved_runs_without_mean_and_deviation_are_features_as_they_are(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(80, 2))
    settings = VideoSettings(str(write_walks(tmp_path / "a.npz", actions=vectors)), window=4, validation=0, test=0)
    old = replace(open_video(settings).spec, channels=2, details={"action_names": [], "action_size": 2})
    data = open_video(settings, spec=old)
    assert data.spec == old
    _, features = next(data.train.taken(1).whole(1))
    np.testing.assert_allclose(features[0, 1:], vectors[20:39], rtol=1e-6)
    assert (features[0, 0] == 0).all()


def test_a_vector_that_never_changes_is_no_division_by_zero() -> None:
    actions = Actions(size=1).standardised(np.full((5, 1), 0.1))
    np.testing.assert_allclose(actions.encoded(np.full((2, 1), 0.1)), [[1, 0], [1, 0]], atol=1e-6)


@pytest.mark.parametrize(
    ("clip", "lengths"), [(None, [20]), (4, [4] * 5), (7, [7, 7, 6]), (8, [8, 8, 4]), (9, [9, 11]), (15, [20])]
)
def test_windows_never_cross_an_episode_whatever_the_clips(
    tmp_path: Path, clip: int | None, lengths: list[int]
) -> None:
    data = opened(write_walks(tmp_path / "a.npz"), clip=clip)
    assert data.train.lengths.tolist() == 4 * lengths
    found = list(windows(data.train))
    assert len(found) == 4 * (20 - 4 + 1)
    for frames, _ in found:
        assert len({tuple(frame[0, 0]) for frame in frames}) == 1  # one background
    plan = BatchPlan(17)
    with data.train.batches(plan) as loader:
        batches = list(islice(loader, 4))
    drawn = torch.cat([frames for frames, _ in batches])
    assert drawn.shape == (68, 4, 16, 16, 3)
    assert len({frames.numpy().tobytes() for frames in drawn}) == len({frames.tobytes() for frames, _ in found})


def test_windows_never_cross_a_cut(tmp_path: Path) -> None:
    """Three shots in a film, of a camera that pans fast."""
    pan = np.random.default_rng(0).integers(0, 256, (3, 32, 400, 3), np.uint8)
    shots = [[pan[shot][:, 8 * step : 8 * step + 48] for step in range(12)] for shot in range(3)]
    frames = np.array([frame // (1, 2, 4)[shot] for shot in range(3) for frame in shots[shot]], np.uint8)
    smooth = np.array([np.asarray(Image.fromarray(frame).resize((6, 4)).resize((48, 32))) for frame in frames])
    assert find_cuts(smooth, 0.02) == [12, 24]
    assert find_cuts(smooth, 0.9) == []
    write_video(tmp_path / "a.mp4", smooth)
    data = opened(tmp_path, cut=0.02)
    assert [data.train.name(index) for index in range(3)] == ["a at frame 0", "a at frame 12", "a at frame 24"]
    assert len(data.train.starts[0]) == 3 * (12 - 4 + 1)
    assert len(opened(tmp_path, cut=None).train.starts[0]) == 36 - 4 + 1


def test_cuts_show_in_the_layout_or_in_the_colours_and_not_in_fast_turns_or_slow_light() -> None:
    bars = (np.arange(300) // 12 % 2)[:, None] * np.array([200, 60, 0])
    turn = np.array([np.tile(bars[9 * step : 9 * step + 48], (48, 1, 1)) for step in range(20)], np.uint8)
    assert find_cuts(turn, 0.1) == []
    turn[10:] = turn[10:, :, :, ::-1]
    assert find_cuts(turn, 0.1) == [10]  # other colours, while the turn changes thumbnails as much
    still = np.zeros((20, 48, 48, 3), np.uint8)
    still[:10, :24], still[10:, 24:] = 200, 200
    assert find_cuts(still, 0.1) == [10]  # the same colours elsewhere
    flat = np.tile(np.arange(60, 160, dtype=np.uint8)[:, None, None, None], (1, 48, 48, 3))
    assert find_cuts(flat, 0.1) == []  # across several bins, each frame one level brighter


def test_names_of_splits_are_splits_and_the_rest_is_held_out(tmp_path: Path) -> None:
    write_walks(tmp_path / "train.npz", episodes=12)
    write_walks(tmp_path / "test.npz", episodes=2)
    data = opened(tmp_path, validation=0.3, test=0.3)
    names = {split: set(getattr(data, split).names) for split in ("train", "validation", "test")}
    assert names["test"] == {"test episode 0", "test episode 1"}
    assert names["train"] | names["validation"] == {f"train episode {number}" for number in range(12)}
    assert names["validation"]
    assert not names["train"] & names["validation"]
    assert len(data.all) == 14
    # An episode's split does not depend on other files.
    write_walks(tmp_path / "training" / "more.npz", episodes=3)
    again = opened(tmp_path, validation=0.3, test=0.3)
    assert names["validation"] <= set(again.validation.names)
    assert data.digest["test"] == again.digest["test"]


def test_one_name_of_a_split_beside_others_is_that_split(tmp_path: Path) -> None:
    for name in ("maze1", "maze2", "test", "valley"):
        write_walks(tmp_path / f"{name}.npz", episodes=2)
    data = opened(tmp_path)
    assert data.test.names == ["test episode 0", "test episode 1"]
    assert {name.split()[0] for name in data.train.names} == {"maze1", "maze2", "valley"}
    assert data.summary.endswith("held out by name: test")
    shared = opened(tmp_path, test=0.5, validation=0.3)
    assert shared.test.names == data.test.names
    for name in ("maze1", "maze2", "valley"):
        (tmp_path / f"{name}.npz").unlink()
    write_walks(tmp_path / "test-2" / "a.npz", episodes=2)
    with pytest.raises(DataError, match=r"no video is left to train on; .*these are not for training: test-2, test: "):
        opened(tmp_path)


@pytest.mark.parametrize(("gap", "left_out"), [(3, 3), (None, 4), (0, 0)])
def test_a_stretch_of_time_is_held_out_with_a_gap(tmp_path: Path, gap: int | None, left_out: int) -> None:
    frames = numbered(38, (8, 8))
    np.savez(tmp_path / "a.npz", frames=frames)
    data = opened(tmp_path, hold_out="time", validation=0.2, test=0.2, gap=gap, cut=None)
    split = {
        int(frame[0, 0, 0]): name for name in ("train", "validation", "test") for frame in getattr(data, name).values
    }
    assert {"train", "validation", "test"} == set(split.values())
    runs = [(name, len(list(run))) for name, run in groupby(split.get(int(frame[0, 0, 0])) for frame in frames)]
    inner = [length for name, length in runs[1:-1] if name is None]
    assert inner == [left_out] * len(inner)
    assert len(inner) >= 2 * bool(left_out)
    for (before, _), (after, _) in pairwise(runs):
        assert not left_out or None in (before, after)


def test_folders_of_frames_gifs_and_films_are_read(tmp_path: Path) -> None:
    frames = numbered(8, (16, 16))
    (tmp_path / "one").mkdir()
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / "one" / f"{index}.png")
    pictures = [Image.fromarray(frame) for frame in frames]
    pictures[0].save(tmp_path / "two.gif", save_all=True, append_images=pictures[1:], duration=100)
    write_video(tmp_path / "three.mp4", frames)
    (tmp_path / "notes.txt").write_text("not a film")
    data = opened(tmp_path, cut=None)
    assert sorted(data.train.names) == ["one", "three", "two"]
    assert data.spec.rate == pytest.approx(10)
    assert (data.spec.channels, data.spec.shape) == (0, (3, 4, 16, 16))
    assert data.train.batch(*next(data.train.whole(1))).features is None
    spec = data.spec
    (x,) = MODALITY.read([tmp_path / "one"], spec)
    assert torch.equal((x * 255).round().byte(), torch.from_numpy(frames).permute(3, 0, 1, 2))


def test_files_of_one_name_are_two_and_a_picture_beside_a_film_is_no_film(tmp_path: Path) -> None:
    write_walks(tmp_path / "maze" / "a.npz", episodes=1)
    write_walks(tmp_path / "maze" / "b.npz", episodes=1, actions=None)
    write_video(tmp_path / "maze" / "b.mp4", walk(20)[0])
    Image.fromarray(numbered(1)[0]).save(tmp_path / "maze" / "a preview.png")
    np.savez(tmp_path / "maze" / "a.npz", frames=walk(20)[0])
    assert sorted(opened(tmp_path, cut=None).train.names) == ["maze/a", "maze/b.mp4", "maze/b.npz"]


def test_a_single_source_is_no_split_whatever_its_name(tmp_path: Path) -> None:
    write_walks(tmp_path / "test.npz")
    assert len(opened(tmp_path / "test.npz").train) == 4
    folder = tmp_path / "more" / "test"
    folder.mkdir(parents=True)
    for index, frame in enumerate(numbered(6)):
        Image.fromarray(frame).save(folder / f"{index}.png")
    assert opened(folder, cut=None).train.names == ["test"]


def test_actions_of_several_files_are_matched_by_their_names(tmp_path: Path) -> None:
    """The test file has the same walks as the training file; 0, 1 and 2 are left, right and stay in one of them."""
    pictures, actions = walk(20)
    other = np.array([2, 1, 0])[actions]
    named = {"frames": pictures, "episode": None}
    write_walks(tmp_path / "train.npz", actions=actions, action_names=["left", "right", "stay"], **named)
    write_walks(tmp_path / "test.npz", actions=other, action_names=["stay", "right", "left"], **named)
    data = opened(tmp_path)
    assert data.actions.names == ("left", "right", "stay")  # of the training file
    np.testing.assert_array_equal(data.train.features, data.test.features)
    again = open_video(VideoSettings(str(tmp_path / "test.npz"), window=4, validation=0, test=0), spec=data.spec)
    np.testing.assert_array_equal(again.train.features, data.train.features)
    plain = opened(tmp_path, action_names=("a", "b", "c"))  # holds for all files
    np.testing.assert_array_equal(plain.test.features[1:], np.eye(3)[other[:-1]])
    assert "actions_renamed" in plain.spec.details


def test_names_of_actions_may_be_bytes(tmp_path: Path) -> None:
    names = ["links", "rechts", "geh zurück"]
    write_walks(tmp_path / "a.npz", action_names=np.array([name.encode() for name in names]))
    assert opened(tmp_path).actions.names == tuple(names)


def test_a_file_that_names_other_actions_is_skipped(tmp_path: Path) -> None:
    write_walks(tmp_path / "a.npz", action_names=["left", "right", "stay"])
    write_walks(tmp_path / "b.npz", action_names=["left", "right", "jump"])
    write_walks(tmp_path / "c.npz")  # names none: its numbers are those of the others
    data = opened(tmp_path)
    assert {name.split()[0] for name in data.train.names} == {"a", "c"}
    assert all("left, right, jump, but the data have 3 actions (left, right, stay)" in why for _, why in data.skipped)
    assert opened(tmp_path, action_names=("left", "right", "other")).skipped == []
    settings = VideoSettings(str(tmp_path / "b.npz"), window=4, validation=0, test=0)
    with pytest.raises(DataError, match=r"b episode 3: its actions are named left, right, jump"):
        open_video(settings, spec=data.spec)


BAD = {
    "actions of another length": ({"actions": np.zeros(79, np.int64)}, "79 actions for 80 frames"),
    "a negative action": ({"actions": np.full(80, -1)}, "the action at index 0 is -1: it must be at least 0"),
    "an action out of range": ({"actions": np.full(80, 7)}, r"index 0 is 7, out of range: the data have 3 actions"),
    "actions numbered by keys": ({"actions": np.full(80, 65361)}, "index 0 is 65361: .* 0, 1, 2, ... without gaps"),
    "actions that are no numbers": ({"actions": np.full(80, "left")}, "its actions must be numbers"),
    "an action that is NaN": ({"actions": np.full((80, 2), np.nan)}, "the action at index 0 is not finite"),
    "names as one text": ({"action_names": "left,right,stay"}, r"action_names must be a list of texts \[N\], not <U15"),
    "a name twice": ({"action_names": ["left", "left", "stay"]}, "action_names have a name twice: left, left, stay"),
    "names in another code": ({"action_names": np.array([b"\xff", b"a", b"b"])}, "action_names are not UTF-8"),
    "no frames": ({"frames": None}, "it has no array `frames`"),
    "frames as floats": ({"frames": np.zeros((80, 16, 16, 3))}, r"must be uint8 \[T, H, W, 3\], not float64"),
    "episodes of another length": ({"episode": np.zeros(3)}, r"episode has the shape \[3\], but there are 80 frames"),
    "no rate": ({"rate": -1.0}, "its rate is -1.0"),
    "another rate": ({"rate": 35.0}, "it has 35 frames/s, not 5, and npz files are not sampled at other rates"),
    "another size": ({"frames": np.zeros((80, 8, 8, 3), np.uint8)}, "its frames have 8x8 pixels.*set data.size"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_npz_files_are_skipped_by_name(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    content, complaint = BAD[name]
    write_walks(tmp_path / "a.npz")
    write_walks(tmp_path / "b.npz", **content)
    with caplog.at_level(logging.WARNING, logger="narrows"):
        data = opened(tmp_path, action_names=("left", "right", "stay"), rate=5.0)
    assert {name.split()[0] for name in data.train.names} == {"a"}
    assert data.skipped
    assert all("b" in Path(file).stem for file, _ in data.skipped)
    with pytest.raises(DataError, match=complaint):
        opened(tmp_path, action_names=("left", "right", "stay"), rate=5.0, strict=True)
    assert "files skipped" in caplog.text


def test_what_is_shorter_than_a_window_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(DataError, match=r"a episode 3: it has 20 frames, but data.window is 21"):
        opened(write_walks(tmp_path / "a.npz"), window=21)
    write_walks(tmp_path / "b.npz", episodes=1, length=9)
    caplog.set_level(logging.WARNING, logger="narrows")
    data = opened(tmp_path, window=10, strict=True)  # the file can be read
    assert data.skipped == []
    assert "left out: 1\n  b: it has 9 frames, but data.window is 10" in caplog.text


def test_a_picture_at_the_top_does_not_set_the_size(tmp_path: Path) -> None:
    for number in range(2):
        write_walks(tmp_path / "walks" / f"{number}.npz", episodes=1)
    Image.fromarray(numbered(1, (100, 200))[0]).save(tmp_path / "cover.png")
    data = opened(tmp_path)
    assert data.train.names == ["walks/0", "walks/1"]
    assert data.skipped == []


def test_frames_of_skipped_files_do_not_count_against_the_memory(tmp_path: Path) -> None:
    for name, count, size in (("a", 30, 16), ("b", 2000, 32), ("c", 30, 16)):
        np.savez(tmp_path / f"{name}.npz", frames=np.zeros((count, size, size, 3), np.uint8))
    for number in range(8):
        np.savez(tmp_path / f"a{number}.npz", frames=np.zeros((30, 16, 16, 3), np.uint8), episode=np.zeros(3))
    data = opened(tmp_path, cut=None, memory_limit_gb=1e-4)
    assert data.train.names == ["a", "c"]
    assert len(data.skipped) == 9


def test_data_without_videos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        opened(tmp_path / "none")
    with pytest.raises(DataError, match="has no videos or frames"):
        opened(tmp_path)
    (tmp_path / "a.mp4").write_bytes(b"junk")
    with pytest.raises(DataError, match=r"no video that can be used; the last: .*a.mp4: it cannot be read"):
        opened(tmp_path)
    with pytest.raises(DataError, match="need more than 1e-06 GB of memory"):
        opened(write_walks(tmp_path / "b.npz"), memory_limit_gb=1e-6)


def test_other_data_are_brought_to_the_size_and_checked_for_the_actions_of_a_model(tmp_path: Path) -> None:
    spec = opened(write_walks(tmp_path / "a.npz"), action_names=("left", "right", "stay")).spec
    frames = np.zeros((20, 24, 32, 3), np.uint8)
    np.savez(tmp_path / "b.npz", frames=frames, actions=np.full(20, 2))
    settings = VideoSettings(str(tmp_path / "b.npz"), window=4, validation=0, test=0)
    data = open_video(settings, spec=spec)
    assert data.spec == spec
    (x,) = MODALITY.read([tmp_path / "b.npz"], spec)
    assert x.shape == (3, 20, 16, 16)
    np.savez(tmp_path / "b.npz", frames=frames, actions=np.full(20, 3))
    with pytest.raises(DataError, match="out of range: the data have 3 actions"):
        open_video(settings, spec=spec)
    np.savez(tmp_path / "b.npz", frames=frames)
    with pytest.raises(DataError, match="it has no actions, but the data have 3 actions"):
        open_video(settings, spec=spec)
