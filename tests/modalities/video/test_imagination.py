"""Imagining frames: the given ones are kept as codes, actions reach the prior, and other programs open the films."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image, ImageSequence

from narrows.cli import main
from narrows.data import DataError
from narrows.data.films import save_mp4
from narrows.errors import NarrowsError
from narrows.modalities.video.action_lists import features_of_text
from narrows.modalities.video.actions import Actions
from narrows.modalities.video.imagination import imagine, imagined, read_start
from narrows.models import Autoencoder
from narrows.pretrained import load, save_autoencoder
from narrows.sampling import Sampling
from tests.modalities.video.conftest import LENGTH, MODEL, NAMES, SIZE


def has_actions(run: Path) -> bool:
    return bool(json.loads((run / "model" / "config.json").read_text())["spec"]["channels"])


def test_films_strips_and_a_page_are_written(run: Path, recording: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    lists = ["--actions", "ahead*3", "right,1*2"] if has_actions(run) else ["--imagine", "3"]
    rows = len(lists) - 1
    main(["imagine", str(run), "--start", f"{recording}@2", "--frames=4", *lists, "-n", "2", "--out", str(out)])
    films = sorted(path.name for path in out.glob("*.*"))
    clips = rows * 2 if has_actions(run) else 2
    assert films == [*(f"{n:03}.{kind}" for n in range(clips) for kind in ("gif", "mp4")), "index.html", "strip.png"]
    with Image.open(out / "000.gif") as film:
        shown = [frame.info["duration"] for frame in ImageSequence.Iterator(film)]
        assert sum(shown) == 7 * 200  # equal frames are stored once, for longer
        assert film.size == (240, 240)
    with Image.open(out / "strip.png") as strip:
        assert strip.size[0] > 7 * SIZE
        assert strip.size[1] > clips * SIZE
    text = (out / "index.html").read_text()
    assert "The first 4 frames are given, from two episode 0 at frame 2; the others are imagined." in text
    av = pytest.importorskip("av")
    with av.open(str(out / "000.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 7


def test_given_frames_are_decoded_from_their_codes_and_actions_change_what_follows(run: Path, recording: Path) -> None:
    model = load(run)
    assert model.prior is not None
    start = read_start(str(recording), 3, model)
    channels = model.spec.channels
    lists = {"a": np.eye(3, dtype=np.float32)[[0] * 6, :channels], "b": np.eye(3, dtype=np.float32)[[2] * 6, :channels]}
    draw = partial(imagined, model, model.prior, start, lists, 6)
    done = draw(2, Sampling(seed=0))
    assert done.names == ["a 1", "a 2", "b 1", "b 2"]
    known = model.reconstruct(start.x.unsqueeze(0))[0]
    for clip in done.clips:
        assert clip.shape == (3, 9, SIZE, SIZE)
        torch.testing.assert_close(clip[:, :3], known)
    alone = draw(1, Sampling(seed=0, top_k=1))  # only the actions differ
    assert alone.names == ["a", "b"]
    assert torch.equal(*alone.clips) != has_actions(run)


def test_films_of_an_earlier_call_are_replaced(run: Path, recording: Path, tmp_path: Path) -> None:
    ask = ["imagine", str(run), "--start", str(recording), "--imagine=1", "--out", str(tmp_path / "out")]
    main([*ask, "-n", "3"])
    (tmp_path / "out" / "004.txt").write_text("another's")
    main(ask)
    found = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert found == ["000.gif", "000.mp4", "004.txt", "index.html", "strip.png"]


def test_guidance_changes_what_is_imagined(run: Path, recording: Path, tmp_path: Path) -> None:
    if not has_actions(run):
        pytest.skip("nothing guides")
    command = ["imagine", str(run), "--start", str(recording), "--actions", "ahead*3"]
    for name, more in (("plain", []), ("none", ["--guidance=0"]), ("much", ["--guidance=9"])):
        main([*command, *more, "--out", str(tmp_path / name)])
    plain, none, much = ((tmp_path / name / "strip.png").read_bytes() for name in ("plain", "none", "much"))
    assert plain == none != much


def test_a_start_has_the_features_of_its_own_frames(run: Path, recording: Path, tmp_path: Path) -> None:
    model = load(run)
    with np.load(recording) as content:
        frames, actions = content["frames"], content["actions"]
    for first, given in ((0, LENGTH), (3, 4), (LENGTH, 2), (LENGTH + 3, 6)):
        start = read_start(f"{recording}@{first}", given, model)
        expected = torch.from_numpy(frames[first : first + given]).permute(3, 0, 1, 2) / 255
        torch.testing.assert_close(start.x, expected.float())
        assert start.features.shape == (given, model.spec.channels)
        if has_actions(run):
            led = np.eye(3)[np.concatenate([[0], actions[:-1]])][first : first + given]
            if first % LENGTH == 0:
                led[0] = 0  # no action leads to the first frame of an episode
            np.testing.assert_array_equal(start.features, led)
    np.savez(tmp_path / "bare.npz", frames=frames)
    assert not read_start(str(tmp_path / "bare.npz"), 2, model).features.any()


def test_a_start_has_the_actions_of_the_model_by_their_names(run: Path, recording: Path, tmp_path: Path) -> None:
    model = load(run)
    if not has_actions(run):
        return
    with np.load(recording) as content:
        arrays = dict(content)
    arrays |= {"actions": 2 - arrays["actions"], "action_names": arrays["action_names"][::-1]}
    np.savez(tmp_path / "turned.npz", **arrays)
    one, other = (read_start(str(path), LENGTH, model) for path in (recording, tmp_path / "turned.npz"))
    np.testing.assert_array_equal(one.features, other.features)
    np.savez(tmp_path / "other.npz", **arrays | {"action_names": np.array(["a", "b", "c"])})
    with pytest.raises(DataError, match=r"--start .*other.npz: its actions are named a, b, c, but the data have 3"):
        read_start(str(tmp_path / "other.npz"), LENGTH, model)


def test_a_start_may_be_a_film_or_a_folder(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("av")
    model = load(run)
    frames = np.full((8, 24, 32, 3), 128, np.uint8)
    save_mp4(tmp_path / "a@b.mp4", iter(frames), 5.0, 10)
    (tmp_path / "stills").mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / "stills" / f"{number}.png")
    for name in ("a@b.mp4", "a@b.mp4@2", "stills", "stills@2"):
        start = read_start(str(tmp_path / name), 6, model)
        assert start.x.shape == (3, 6, SIZE, SIZE)
        assert not start.features.any()
        assert start.x.mean() == pytest.approx(0.5, abs=0.02)


def test_starts_that_cannot_be_used_are_refused(run: Path, recording: Path, tmp_path: Path) -> None:
    model = load(run)
    with pytest.raises(DataError, match=r"@7: only 2 frames follow in two episode 0, not the 3 of --frames"):
        read_start(f"{recording}@7", 3, model)
    with pytest.raises(DataError, match="it has no frame 18"):
        read_start(f"{recording}@18", 3, model)
    with pytest.raises(DataError, match=r"nothing\.npz"):
        read_start(str(tmp_path / "nothing.npz"), 3, model)
    (tmp_path / "cut.npz").write_bytes(recording.read_bytes()[:400])
    with pytest.raises(DataError, match=r"--start .*cut.npz: it cannot be read as npz"):
        read_start(str(tmp_path / "cut.npz"), 3, model)
    if has_actions(run):
        np.savez(tmp_path / "other.npz", frames=np.zeros((4, SIZE, SIZE, 3), np.uint8), actions=np.full(4, 3))
        with pytest.raises(DataError, match=r"--start .*other.npz: the action at index 0 is 3, out of range"):
            read_start(str(tmp_path / "other.npz"), 3, model)


def test_requests_that_cannot_be_met_are_refused(run: Path, recording: Path, tmp_path: Path) -> None:
    ask = partial(imagine, str(run), str(recording), out=tmp_path / "out")
    for settings, message in (
        ({"given": 0}, "--frames is 0"),
        ({"imagine": 0}, "--imagine is 0"),
        ({"n": 0}, "-n is 0"),
    ):
        with pytest.raises(NarrowsError, match=message):
            ask(**settings)
    if has_actions(run):
        with pytest.raises(NarrowsError, match="3 actions for the 2 frames of --imagine"):
            ask(actions=["left*3"], imagine=2)
        with pytest.raises(NarrowsError, match="guidance is -1"):
            ask(guidance=-1.0)
    else:
        with pytest.raises(NarrowsError, match="trained on videos without actions; leave it out"):
            ask(actions=["left*3"])
        with pytest.raises(NarrowsError, match="not conditioned on features"):
            ask(guidance=1.0)
    assert not (tmp_path / "out").exists()


def test_models_without_a_prior_or_of_other_data_are_refused(
    run: Path, recording: Path, tmp_path: Path, trained: Path
) -> None:
    model = load(run)
    assert isinstance(model, Autoencoder)
    save_autoencoder(tmp_path / "model", model, yaml.safe_dump({"model": MODEL}))
    with pytest.raises(NarrowsError, match="has no prior to draw codes from: fit one with `narrows prior"):
        imagine(str(tmp_path), str(recording))
    with pytest.raises(NarrowsError, match="a model of images: `narrows imagine` continues videos"):
        imagine(str(trained), str(recording))


def test_actions_are_read_from_text() -> None:
    named = partial(features_of_text, actions=Actions(NAMES))
    np.testing.assert_array_equal(named("ahead*2,0, none"), [[0, 0, 1], [0, 0, 1], [1, 0, 0], [0, 0, 0]])
    vectors = partial(features_of_text, actions=Actions(size=2))
    np.testing.assert_array_equal(vectors("0.5:-1*2,none"), [[0.5, -1], [0.5, -1], [0, 0]])
    for text, message in {
        "up": r"no action 'up'; there are 3 actions \(left, right, ahead\), and 'none'",
        "3": "no action '3'",
        "": "no action ''",
        "left*0": r"'0' is not how often to repeat an action, as 5 in left\*5",
        "left*x": "'x' is not how often",
        "left,,": "no action ''",
    }.items():
        with pytest.raises(NarrowsError, match=message):
            named(text)
    for text in ("1", "1:2:3", "a:b", "nan:1", ""):
        with pytest.raises(NarrowsError, match=r"is no action of 2 numbers: write it as 0\.5:0\.5, or 'none'"):
            vectors(text)
