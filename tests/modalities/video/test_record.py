from pathlib import Path

import numpy as np
import pytest

from narrows.cli import main
from narrows.errors import NarrowsError
from narrows.modalities.video.dataset import open_video
from narrows.modalities.video.record import Player, RecordingSettings, record
from narrows.modalities.video.settings import VideoSettings


def test_a_player_repeats_its_actions_and_goes_forward() -> None:
    players = {policy: Player(RecordingSettings(policy=policy, hold=4)) for policy in ("random", "forward")}
    chosen = {policy: [player.choose() for _ in range(4000)] for policy, player in players.items()}
    shares = {policy: np.bincount(actions) / 4000 for policy, actions in chosen.items()}
    np.testing.assert_allclose(shares["random"], 1 / 3, atol=0.05)
    np.testing.assert_allclose(shares["forward"], [1 / 6, 1 / 6, 2 / 3], atol=0.05)
    repeats = np.mean(np.diff(chosen["random"]) == 0)
    assert 0.6 < repeats < 0.8  # 1 - (2/3) / 2.5


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"actions": ("jump",)}, "--actions jump: the actions are left"),
        ({"actions": ("left",), "policy": "forward"}, "forward is not among the --actions"),
        ({"frames": 0}, "--frames is 0"),
    ],
)
def test_settings_that_cannot_be_recorded_are_refused(settings: dict[str, object], complaint: str) -> None:
    with pytest.raises(NarrowsError, match=complaint):
        RecordingSettings(**settings)  # type: ignore[arg-type]


def test_recordings_are_repeatable_and_turning_left_moves_the_picture_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("vizdoom")
    monkeypatch.chdir(tmp_path)
    asked = ["--frames", "90", "--episode", "40", "--size", "24", "--actions", "left", "right", "--seed", "3"]
    for name in ("a", "b"):
        assert main(["record", *asked, "--out", str(tmp_path / f"{name}.npz")]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "b.npz"]  # the game leaves nothing behind
    with np.load(tmp_path / "a.npz") as one, np.load(tmp_path / "b.npz") as other:
        assert all(np.array_equal(one[name], other[name]) for name in one.files)
        assert one["frames"].shape == (90, 24, 24, 3)
        assert one["episode"].tolist() == [0] * 40 + [1] * 40 + [2] * 10
        assert one["rate"] == 8.75
    data = open_video(VideoSettings(str(tmp_path / "a.npz"), window=4, validation=0, test=0))
    assert data.actions.names == ("left", "right")
    actions, moved = [], []
    for index in range(len(data.train)):
        frames, features = (part[0].numpy() for part in next(data.train.taken(index).whole(1)))
        for before, after, feature in zip(frames, frames[1:], features[1:], strict=False):
            if before.std() > 5:
                actions.append(feature.argmax())
                moved.append(_shift(before.mean(2)[:16], after.mean(2)[:16]))
    left, right = (np.array(moved)[np.array(actions) == action] for action in (0, 1))
    assert (left > 0).mean() > 0.8
    assert (right < 0).mean() > 0.8


def _shift(before: np.ndarray, after: np.ndarray) -> int:
    """By how many columns the picture moved to the right."""
    width = before.shape[1]

    def difference(shift: int) -> float:
        one, other = (
            (before[:, : width - shift], after[:, shift:])
            if shift > 0
            else (before[:, -shift:], after[:, : width + shift])
        )
        return float(np.abs(one - other).mean())

    return min(range(-8, 9), key=difference)


def test_a_recording_that_cannot_start_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("vizdoom")
    with pytest.raises(NarrowsError, match=r"--scenario nowhere: there is no such file; .*my_way_home"):
        record(tmp_path / "a.npz", RecordingSettings("nowhere"))
    (tmp_path / "bad.cfg").write_text("doom_scenario_path = none.wad\n")
    with pytest.raises(NarrowsError, match="ViZDoom cannot start it"):
        record(tmp_path / "a.npz", RecordingSettings(str(tmp_path / "bad.cfg")))
    with pytest.raises(NarrowsError, match=r"must end in \.npz"):
        record(tmp_path / "a.mp4", RecordingSettings())
    assert not list(tmp_path.glob("*.npz"))
