import logging
import os
import shutil
from collections import namedtuple
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from jsonargparse import ArgumentParser
from PIL import Image
from sklearn.datasets import load_digits

from narrows.data import BatchPlan, DataError
from narrows.modalities.images.images import _patient, open_images
from narrows.modalities.images.settings import ImageSettings
from narrows.progress import Meter


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "set").mkdir()
    return tmp_path / "set"


def opened(folder, **settings):
    return open_images(ImageSettings(**({"source": str(folder), "validation": 0, "test": 0} | settings)))


def by_bytes(images):
    return sorted(pixels.tobytes() for pixels in images.pixels)


# Built-in digits, splits


def test_digits_are_those_of_scikit_learn():
    data = open_images(ImageSettings())
    parts = [data.train, data.validation, data.test]
    assert [len(part) for part in parts] == [1612, 92, 93]
    assert data.spec.shape == (1, 8, 8)
    assert data.classes == list("0123456789")
    ours = {(pixels.tobytes(), label) for part in parts for pixels, label in zip(part.pixels, part.labels, strict=True)}
    bunch = load_digits()
    levels = np.rint(bunch.images * 255 / 16).astype(np.uint8)
    assert ours == {(pixels.tobytes(), label) for pixels, label in zip(levels, bunch.target, strict=True)}
    assert levels.min() == 0
    assert levels.max() == 255


def test_held_out_shares(write, folder):
    for index in range(20):
        write(f"{index:02}.png", pixels=np.full((8, 8), index, np.uint8))

    def parts(**settings):
        data = opened(folder, **({"validation": 0.1, "test": 0.25} | settings))
        return [part.pixels[:, 0, 0, 0].tolist() for part in (data.train, data.validation, data.test)]

    train, validation, test = parts()
    assert sorted(train + validation + test) == list(range(20))
    assert train == sorted(train)
    assert parts(size=4) == [train, validation, test]
    assert parts(split_seed=1)[2] != test


# Folders


def test_sub_folders_are_classes_in_sorted_order(write, folder):
    pixels = {name: write(name) for name in ("b/2.png", "a/x/9.png", "a/1.png", "c/0.bmp")}
    data = opened(folder)
    assert data.classes == ["a", "b", "c"]
    assert data.train.labels.tolist() == [0, 0, 1, 2]
    assert data.train.labels.dtype == np.int64
    expected = [pixels[name].transpose(2, 0, 1) for name in ("a/1.png", "a/x/9.png", "b/2.png", "c/0.bmp")]
    np.testing.assert_array_equal(data.train.pixels, expected)
    assert data.train.pixels.dtype == np.uint8
    assert data.spec.shape == (3, 8, 8)
    assert (len(data.validation), len(data.test), data.skipped) == (0, 0, [])


def test_splits_named_by_folders(write, folder):
    for name in ("train/cat/1.png", "train/dog/2.png", "val/dog/3.png", "test/cat/4.png", "test/eel/5.png", "6.png"):
        write(name)
    data = opened(folder, validation=0.5, test=0.5)
    assert data.classes == ["cat", "dog", "eel"]
    assert [part.labels.tolist() for part in (data.train, data.validation, data.test)] == [[0, 1], [1], [0, 2]]
    assert data.skipped == [(str(folder / "6.png"), "outside the folders train, validation and test")]


def test_a_class_called_test_is_a_class(write, folder):
    write("test/1.png")
    write("trial/2.png")
    assert opened(folder).classes == ["test", "trial"]


def test_images_outside_classes_leave_a_split_unlabelled(write, folder):
    write("1.png")
    assert (opened(folder).train.labels, opened(folder).classes) == (None, [])
    write("a/2.png")
    data = opened(folder)
    assert (data.train.labels, data.classes, len(data.train)) == (None, [], 2)


def test_a_single_image(write, folder):
    pixels = write("1.png")
    np.testing.assert_array_equal(opened(folder / "1.png").train.pixels[0], pixels.transpose(2, 0, 1))


def test_linked_folders_are_followed_once(write, folder):
    write("a/1.png")
    (folder / "b").symlink_to(folder / "a")
    (folder / "a" / "loop").symlink_to(folder)
    elsewhere = folder.parent / "elsewhere"
    shutil.copytree(folder / "a", elsewhere, symlinks=True)
    (folder / "c").symlink_to(elsewhere)
    assert opened(folder).classes == ["a", "c"]


# Shape


def test_a_common_size_is_kept(write, folder):
    write("1.png", 6, 10)
    write("2.png", 6, 10)
    assert opened(folder).spec.shape == (3, 6, 10)
    assert opened(folder, size=4, channels=1).spec.shape == (1, 4, 4)


@pytest.mark.parametrize(("smallest", "size"), [(5, 4), (8, 8), (31, 16), (300, 128)])
def test_mixed_sizes_become_the_largest_power_of_two_that_fits(smallest, size, write, folder, caplog):
    write("1.png", smallest, smallest + 3)
    write("2.png", smallest + 20, smallest + 1)
    with caplog.at_level(logging.WARNING):
        assert opened(folder).spec.shape == (3, size, size)
    assert f"scaled to {size}x{size}: set data.size for another" in caplog.text


def test_grey_only_if_every_image_is(write, folder, noise):
    write("1.png", pixels=noise(8, 8))
    write("2.png", pixels=noise(8, 8))
    assert opened(folder).spec.shape == (1, 8, 8)
    write("3.png")
    assert opened(folder).spec.shape == (3, 8, 8)


def test_binary_pixels(write, folder):
    pixels = write("1.png")
    data = opened(folder, binary=True)
    np.testing.assert_array_equal(data.train.pixels[0], np.where(pixels.transpose(2, 0, 1) < 128, 0, 255))


def test_only_training_images_are_flipped(write, folder):
    for name in ("train/1.png", "val/2.png"):
        write(name)
    data = opened(folder, flip=True)
    assert data.train.flip
    assert not data.validation.flip
    with data.train.batches(BatchPlan(1)) as loader:
        seen = {next(loader)[0].numpy().tobytes() for _ in range(20)}
    assert seen == {data.train.pixels.tobytes(), data.train.pixels[..., ::-1].tobytes()}


# Bad input


@pytest.fixture
def damaged(write, folder):
    """A folder of two good images and three bad files; the reasons expected, by file."""
    write("a/1.png", 64, 64)
    write("b/2.png", 64, 64)
    write("a/cut.png", 64, 64)
    cut = (folder / "a/cut.png").read_bytes()
    (folder / "a/cut.png").write_bytes(cut[: len(cut) // 2])
    (folder / "b/junk.jpg").write_bytes(b"this is no picture")
    (folder / "notes.txt").write_text("nor is this")
    return {"a/cut.png": "truncated", "b/junk.jpg": "not an image", "notes.txt": "not an image file"}


@pytest.mark.parametrize("settings", [{}, {"size": 32, "channels": 3}, {"memory_limit_gb": 0}])
def test_bad_files_are_named_and_skipped(settings, damaged, folder, caplog):
    with caplog.at_level(logging.WARNING):
        data = opened(folder, **settings)
    assert len(data.train) == 2
    assert data.train.labels.tolist() == [0, 1]
    reasons = dict(data.skipped)
    assert set(reasons) == {str(folder / file) for file in damaged}
    assert all(reason in reasons[str(folder / file)] for file, reason in damaged.items())
    assert "files skipped: 3" in caplog.text
    assert str(folder / "b/junk.jpg") in caplog.text


@pytest.mark.parametrize(
    "settings", [{}, {"size": 32, "channels": 3}, {"memory_limit_gb": 0, "size": 32, "channels": 3}]
)
@pytest.mark.parametrize("bad", ["a/cut.png", "b/junk.jpg", "notes.txt"])
def test_strict_stops_at_a_bad_file(bad, settings, damaged, folder, cache):
    for file in set(damaged) - {bad}:
        (folder / file).unlink()
    with pytest.raises(DataError, match=rf"{folder / bad}: .*{damaged[bad]}.*data\.strict"):
        opened(folder, strict=True, **settings)
    assert not [path for path in cache.rglob("*") if path.suffix != ".lock"]


def test_every_file_bad(damaged, folder):
    for name in ("a/1.png", "b/2.png"):
        (folder / name).unlink()
    for settings in ({}, {"size": 8, "channels": 3}):
        with pytest.raises(DataError, match=f"none of the 2 train images can be read; the last: {folder}"):
            opened(folder, **settings)


def test_a_decompression_bomb_is_refused(write, folder, monkeypatch):
    write("1.png", 8, 8)
    write("bomb.png", 64, 64)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for settings in ({}, {"size": 8, "channels": 3}):
        data = opened(folder, **settings)
        assert len(data.train) == 1
        ((file, reason),) = data.skipped
        assert file == str(folder / "bomb.png")
        assert "decompression bomb" in reason


def test_a_missing_or_empty_source(folder):
    with pytest.raises(
        DataError, match=r"data\.source digitz does not exist; give `digits`, a folder, a file, or hf:NAME"
    ):
        open_images(ImageSettings(source="digitz"))
    with pytest.raises(DataError, match=f"{folder} has no images"):
        opened(folder)
    (folder / "notes.txt").write_text("no image")
    with pytest.raises(DataError, match=f"{folder} has no images"):
        opened(folder)


def test_nothing_left_to_train_on(write, folder):
    write("1.png")
    with pytest.raises(DataError, match=r"has 1 training images: none is left once data\.validation and data\.test"):
        opened(folder, validation=0.99)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "data.size is 0"),
        ({"channels": 2}, "data.channels is 2"),
        ({"validation": 1.0}, "data.validation is 1.0"),
        ({"test": -0.1}, "data.test is -0.1"),
        ({"split_seed": -1}, "data.split_seed is -1"),
        ({"streaming": True}, "data.streaming is for hub sets"),
        ({"streaming": True, "source": "hf:x"}, "data.streaming needs data.size and data.channels"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(DataError, match=message):
        ImageSettings(**settings)


def test_settings_are_read_and_documented_by_jsonargparse():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(ImageSettings, "data")
    values = parser.parse_args(["--data.size=32", "--data.source=hf:x", "--data.flip=true"])
    settings = parser.instantiate(values).data
    settings = settings if isinstance(settings, ImageSettings) else ImageSettings(**vars(settings))
    assert settings == ImageSettings(source="hf:x", size=32, flip=True)
    text = parser.format_help()
    assert all(f"--data.{name}" in text for name in vars(settings))
    assert "mirror training images" in text


# Cache


def test_the_cache_holds_what_memory_would(damaged, folder, cache, monkeypatch):
    memory = opened(folder)
    mapped = opened(folder, memory_limit_gb=0)
    assert isinstance(mapped.train.pixels, np.memmap)
    np.testing.assert_array_equal(mapped.train.pixels, memory.train.pixels)
    assert mapped.skipped == memory.skipped

    def fail(*_, **__):
        raise AssertionError("decoded again")

    monkeypatch.setattr("narrows.modalities.images.cache.decode", fail)
    again = opened(folder, memory_limit_gb=0)
    np.testing.assert_array_equal(again.train.pixels, memory.train.pixels)
    np.testing.assert_array_equal(again.train.labels, memory.train.labels)
    assert again.skipped == memory.skipped
    again.train.pixels[:] = 0  # copy-on-write: the file stays as it is
    np.testing.assert_array_equal(opened(folder, memory_limit_gb=0).train.pixels, memory.train.pixels)


def test_the_cache_keeps_the_splits_apart(write, folder):
    for index in range(20):
        write(f"{index:02}.png")
    memory, mapped = (opened(folder, validation=0.5, test=0.25, memory_limit_gb=limit) for limit in (4, 0))
    for split in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(mapped, split).pixels, getattr(memory, split).pixels)


def entries(cache):
    return {path.name for path in cache.iterdir() if path.is_dir()}


def test_the_cache_knows_files_and_settings_apart(write, folder, cache):
    write("1.png")
    for settings in ({}, {}, {"size": 4}, {"channels": 1}, {"binary": True}):
        opened(folder, memory_limit_gb=0, **settings)
    assert len(entries(cache)) == 4
    changed = write("1.png")
    os.utime(folder / "1.png", (0, 0))
    np.testing.assert_array_equal(opened(folder, memory_limit_gb=0).train.pixels[0], changed.transpose(2, 0, 1))


def test_a_kill_while_the_cache_is_written_leaves_nothing(write, folder, cache):
    write("1.png")
    opened(folder, memory_limit_gb=0)
    for name in entries(cache):
        torn = cache / f".{name}.tmp"
        (cache / name).rename(torn)
        (torn / "pixels.npy").write_bytes(b"torn")
    assert len(opened(folder, memory_limit_gb=0).train) == 1
    assert not [name for name in entries(cache) if name.startswith(".")]


def test_a_full_disk(write, folder, cache, monkeypatch):
    write("1.png")
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10))
    with pytest.raises(DataError, match=r"0\.0 GB are free; set NARROWS_CACHE"):
        opened(folder, memory_limit_gb=0)
    assert not entries(cache)


def test_a_damaged_cache_is_named(write, folder, cache):
    write("1.png")
    opened(folder, memory_limit_gb=0)
    for name in entries(cache):
        (cache / name / "pixels.npy").write_bytes(b"torn")
    with pytest.raises(DataError, match=f"{cache}.* are damaged .*delete that folder"):
        opened(folder, memory_limit_gb=0)


def test_progress_is_shown_only_after_a_while(monkeypatch):
    shown = []
    clock = iter([0.0, 0.5, 2.0])
    monkeypatch.setattr("narrows.modalities.images.images.time.monotonic", lambda: next(clock))

    @contextmanager
    def show(description, total, unit, done):
        shown.append((description, total, unit, done))
        yield Meter(done)
        shown.append("ended")

    with _patient("decoding", 3, show) as advance:
        advance(1)
        assert not shown
        advance(1)
        assert shown == [("decoding", 3, "images", 1)]
    assert shown[-1] == "ended"


@pytest.mark.skipif("NARROWS_DATA" not in os.environ, reason="NARROWS_DATA does not name the folder of real sets")
class TestRealSets:
    root = Path(os.environ.get("NARROWS_DATA", ""))

    def test_mnist(self):
        data = open_images(ImageSettings(source=str(self.root / "mnist")))
        assert (len(data.train), len(data.validation), len(data.test)) == (57000, 3000, 10000)
        counts = np.bincount(np.concatenate([data.train.labels, data.validation.labels]))
        assert counts.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
        assert abs(data.train.pixels.mean() / 255 - 0.1307) < 1e-3

    def test_natural256(self):
        data = open_images(ImageSettings(source=str(self.root / "natural256"), size=64))
        assert (len(data.train), data.spec.shape, data.skipped) == (850 - 43 - 43, (3, 64, 64), [])
