"""Splits of sources that people have: stray files beside them, wrapped folders, hub sets of several parts."""

import os
import shutil
import tracemalloc

import datasets
import numpy as np
import pytest
import soundfile
from PIL import Image

from narrows.data.hub import load_hub
from narrows.modalities.images.images import open_images
from narrows.modalities.images.settings import ImageSettings
from narrows.modalities.images.undecoded import Found, Undecoded
from narrows.modalities.sound.dataset import open_sounds
from narrows.modalities.sound.settings import SoundSettings


@pytest.fixture(autouse=True)
def hub_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("hub"))


def write_images(folder, names):
    rng = np.random.default_rng(0)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(256, size=(4, 4), dtype=np.uint8)).save(folder / name)


def images_of(source, **settings):
    return open_images(ImageSettings(source=str(source), **settings))


def test_a_stray_image_changes_no_class_two_folders_deep(tmp_path):
    names = ["animals/cat/1.png", "animals/dog/2.png", "cars/bus/3.png"]
    write_images(tmp_path, [*names, "cover.png"])
    data = images_of(tmp_path, validation=0, test=0)
    assert data.classes == ["animals/cat", "animals/dog", "cars/bus"]
    assert data.train.labels.tolist() == [0, 1, 2]
    assert [file for file, _ in data.skipped] == [str(tmp_path / "cover.png")]


def test_a_stray_image_hides_no_splits_below_a_chain_of_folders(tmp_path):
    names = ["a/b/train/x/1.png", "a/b/train/y/2.png", "a/b/val/x/3.png"]
    write_images(tmp_path, [*names, "cover.png", "a/cover.png"])
    data = images_of(tmp_path, validation=0, test=0)
    assert data.classes == ["x", "y"]
    assert (data.train.labels.tolist(), data.validation.labels.tolist()) == ([0, 1], [0])
    outside = "outside the folders train, validation and test"
    assert sorted(data.skipped) == [(str(tmp_path / name), outside) for name in ("a/cover.png", "cover.png")]


@pytest.mark.parametrize("above", ["set/images/", "train/images/"])
def test_classes_below_a_chain_of_single_folders_are_told_apart(tmp_path, above):
    write_images(tmp_path, [f"{above}cat/1.png", f"{above}dog/2.png"])
    data = images_of(tmp_path, validation=0, test=0)
    assert data.classes == ["cat", "dog"]
    assert data.train.labels.tolist() == [0, 1]


def hub_of(monkeypatch, streaming, **splits):
    """Stand in for a set of the hub, whose splits hold these numbers."""
    parts = {name.replace("__", "."): datasets.Dataset.from_dict({"row": rows}) for name, rows in splits.items()}
    if streaming:
        parts = {name: part.to_iterable_dataset() for name, part in parts.items()}
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: parts)
    settings = ImageSettings(source="hf:any/set", streaming=streaming, size=4, channels=1)
    return {split: [row["row"] for row in part] for split, part in load_hub(settings.source, settings.config).items()}


@pytest.mark.parametrize("streaming", [False, True])
def test_a_hub_split_of_the_plain_name_is_not_replaced_by_one_that_begins_so(monkeypatch, streaming):
    found = hub_of(monkeypatch, streaming, train=[1, 2, 3], train_small=[1], test=[4], test_small=[5], extra=[6])
    assert found == {"train": [1, 2, 3], "test": [4]}


@pytest.mark.parametrize("streaming", [False, True])
def test_the_parts_of_a_hub_split_are_read_together(monkeypatch, streaming):
    found = hub_of(monkeypatch, streaming, train__100=[1, 2], train__360=[3], validation=[4], test=[5])
    assert found == {"train": [1, 2, 3], "validation": [4], "test": [5]}


def test_rows_that_keep_a_path_are_split_by_the_bytes_of_their_file(tmp_path):
    def opened(folder):
        cells = [{"bytes": None, "path": str(folder / f"{index}.png")} for index in range(60)]
        features = datasets.Features({"image": datasets.Image()})
        where = folder.with_name(f"{folder.name}-set") / "train.parquet"
        datasets.Dataset.from_dict({"image": cells}, features=features).to_parquet(where, storage_options=None)
        return images_of(where, validation=0.2, test=0.2)

    write_images(tmp_path / "here", [f"{index}.png" for index in range(60)])
    shutil.copytree(tmp_path / "here", tmp_path / "elsewhere")
    here, there = opened(tmp_path / "here"), opened(tmp_path / "elsewhere")
    assert 0 < len(here.validation) < 60
    assert here.digest == there.digest


def test_the_bytes_of_a_set_are_never_held_at_once(monkeypatch):
    def row(index):
        return bytes([index]) * 1_000_000

    items = Undecoded(np.arange(50), None, lambda row: Image.new("L", (4, 4)), str, row, row, str)
    monkeypatch.setattr("narrows.modalities.images.images.find_hub", lambda settings: Found({"train": items}, []))
    tracemalloc.start()
    data = images_of("hf:any/set", validation=0.2, test=0.2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(data.all) == 50
    assert peak < 10_000_000


def test_file_names_that_are_no_unicode(tmp_path, caplog):
    caplog.set_level("CRITICAL", "narrows")  # captured names like these cannot be sent from a test worker
    odd = os.fsdecode(b"\xe9")
    write_images(tmp_path, ["a/1.png", "a/2.png", "b/3.png"])
    (tmp_path / "a" / "1.png").rename(tmp_path / "a" / f"{odd}.png")
    images = images_of(tmp_path, validation=0, test=0)
    assert images.digest["train"]["examples"] == 3
    (tmp_path / "sound").mkdir()
    for name in ("1.wav", "2.wav"):
        soundfile.write(tmp_path / "sound" / name, np.full(40, 0.1), 2000)
    (tmp_path / "sound" / "1.wav").rename(tmp_path / "sound" / f"{odd}.wav")
    sounds = open_sounds(SoundSettings(source=str(tmp_path / "sound"), sample_rate=2000, validation=0, test=0))
    # libsndfile's Python package cannot open such a name.
    assert (sounds.train.names, len(sounds.skipped)) == ([str(tmp_path / "sound" / "2.wav")], 1)


def test_classes_of_rows_that_training_never_sees_are_said(tmp_path, caplog):
    write_images(tmp_path, ["0.png", "1.png"])
    cells = [{"bytes": (tmp_path / f"{index}.png").read_bytes(), "path": None} for index in range(2)]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog", "emu"])})
    for split, labels in {"train": [0, 0], "test": [1, 0]}.items():
        rows = datasets.Dataset.from_dict({"image": cells, "label": labels}, features=features)
        rows.to_parquet(tmp_path / "set" / f"{split}-00000-of-00001.parquet")
    assert images_of(tmp_path / "set", validation=0).classes == ["cat", "dog", "emu"]
    assert "classes without a training image, only in test: dog" in caplog.text
