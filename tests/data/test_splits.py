"""No split leaks: what decides the split of an example is the example, whatever else is there."""

import shutil

import numpy as np
import pytest
import soundfile
from PIL import Image

from narrows.data import DataError, differences
from narrows.data.splits import assigned, has_splits, split_of
from narrows.modalities.images.images import open_images
from narrows.modalities.images.settings import ImageSettings
from narrows.modalities.sound.dataset import open_sounds
from narrows.modalities.sound.settings import SoundSettings


def write_images(folder, names, rng=None):
    rng = rng or np.random.default_rng(0)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(256, size=(4, 4), dtype=np.uint8)).save(folder / name)


def images_of(folder, **settings):
    return open_images(ImageSettings(source=str(folder), **settings))


def splits_of(data):
    return {split: {pixels.tobytes() for pixels in getattr(data, split).pixels} for split in PARTS}


PARTS = ("train", "validation", "test")


def test_the_shares_are_those_asked_for_and_independent_of_each_other():
    names = [f"{index}.png".encode() for index in range(20000)]
    parts = assigned(names, validation=0.05, test=0.1, seed=0)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(20000))
    for split, share in {"validation": 0.05, "test": 0.1}.items():
        deviation = (20000 * share * (1 - share)) ** 0.5
        assert abs(len(parts[split]) - 20000 * share) < 4 * deviation
    # The validation split is the same without a test split, and another seed makes another.
    assert np.array_equal(assigned(names, 0.05, 0, 0)["validation"], parts["validation"])
    other = assigned(names, 0.05, 0.1, 1)["validation"]
    assert len(set(other) & set(parts["validation"])) < 2 * 0.05**2 * 20000


@pytest.mark.parametrize("split_seed", range(3))
def test_a_file_that_comes_or_goes_moves_no_other(tmp_path, split_seed):
    write_images(tmp_path, [f"{index % 4}/{index}.png" for index in range(200)])
    settings = {"validation": 0.1, "test": 0.1, "split_seed": split_seed}
    before = splits_of(images_of(tmp_path, **settings))
    write_images(tmp_path, ["0/000.png", "3/zzz.png", "aaa/0.png"], np.random.default_rng(1))
    more = splits_of(images_of(tmp_path, **settings))
    for index in range(0, 200, 9):
        (tmp_path / f"{index % 4}/{index}.png").unlink()
    fewer = splits_of(images_of(tmp_path, **settings))
    for split in PARTS:
        assert before[split] <= more[split]
        assert fewer[split] <= more[split]
    assert sum(map(len, more.values())) == 203


def test_a_folder_that_moved_is_split_as_before(tmp_path):
    write_images(tmp_path / "a", [f"{index}.png" for index in range(60)])
    before = images_of(tmp_path / "a", validation=0.2, test=0.2)
    shutil.move(tmp_path / "a", tmp_path / "b")
    after = images_of(tmp_path / "b", validation=0.2, test=0.2)
    assert splits_of(before) == splits_of(after)
    assert differences(before.digest, after.digest) is None


def test_rows_of_the_same_bytes_are_in_one_split(tmp_path):
    import datasets

    rng = np.random.default_rng(0)
    write_images(tmp_path, [f"{index}.png" for index in range(30)], rng)
    cells = [{"bytes": (tmp_path / f"{index % 30}.png").read_bytes(), "path": None} for index in range(90)]
    features = datasets.Features({"image": datasets.Image()})
    datasets.Dataset.from_dict({"image": cells}, features=features).to_parquet(tmp_path / "set.parquet")
    for split_seed in range(4):
        parts = splits_of(images_of(tmp_path / "set.parquet", validation=0.3, test=0.3, split_seed=split_seed))
        assert not parts["train"] & parts["validation"]
        assert not parts["train"] & parts["test"]
        assert not parts["validation"] & parts["test"]


def test_clips_that_come_or_go_move_no_other(tmp_path):
    def write(name):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / name, np.random.default_rng(0).uniform(-1, 1, 40), 2000)

    def splits():
        data = open_sounds(SoundSettings(source=str(tmp_path), sample_rate=2000, validation=0.2, test=0.2))
        return {split: set(getattr(data, split).names) for split in PARTS}

    for index in range(60):
        write(f"{'ab'[index % 2]}/{index}.wav")
    before = splits()
    write("a/000.wav")
    write("0/0.wav")
    (tmp_path / "b" / "11.wav").unlink()
    after = splits()
    for split in PARTS:
        assert before[split] - {str(tmp_path / "b" / "11.wav")} <= after[split]


def test_two_microphones_are_held_out_together(tmp_path):
    def opened(folder, names):
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(folder / name, np.full(40, 0.1), 2000)
        data = open_sounds(SoundSettings(source=str(folder), sample_rate=2000, validation=0.3, test=0.3))
        return {name[-17:-10]: split for split in PARTS for name in getattr(data, split).names}

    takes = [f"p225/p225_{take:03}" for take in range(30)]
    first = opened(tmp_path / "first", [f"wav48/{take}_mic1.flac" for take in takes])
    second = opened(tmp_path / "second", [f"wav48/{take}_mic2.flac" for take in takes])
    assert list(first.values()).count("train") < 30
    assert first == second


def test_what_has_changed_is_said_split_by_split(tmp_path):
    write_images(tmp_path, [f"{index}.png" for index in range(40)])
    before = images_of(tmp_path, validation=0.2, test=0)
    assert differences(before.digest, before.digest) is None
    write_images(tmp_path, ["40.png"])
    after = images_of(tmp_path, validation=0.2, test=0)
    told = differences(before.digest, after.digest)
    counts = [len(data.train) + len(data.validation) for data in (before, after)]
    assert counts == [40, 41]
    assert told in {
        f"{split}: {len(getattr(before, split))} examples before, {len(getattr(after, split))} examples now"
        for split in ("train", "validation")
    }
    (tmp_path / "39.png").write_bytes((tmp_path / "39.png").read_bytes() + b"\0")
    again = images_of(tmp_path, validation=0.2, test=0)
    assert "examples as before" in (differences(after.digest, again.digest) or "")


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("train2017", "train"),
        ("Train-clean-100", "train"),
        ("training", "train"),
        ("val2017", "validation"),
        ("val", "validation"),
        ("VALID", "validation"),
        ("validation_set", "validation"),
        ("dev-other", "validation"),
        ("test", "test"),
        ("test.images", "test"),
        ("t10k", "test"),
        ("trial", None),
        ("valley", None),
        ("trainer", None),
        ("testudo", None),
        ("valérie", None),
        ("my-train", None),
    ],
)
def test_names_of_splits(name, split):
    assert split_of(name) == split


def test_folders_are_splits_only_together():
    assert has_splits(["train2017", "val2017"])
    assert has_splits(["val", "test"])
    assert has_splits(["train", "test", "extra"])
    assert not has_splits(["test", "trial"])
    assert not has_splits(["bus", "car", "train"])
    assert not has_splits([])


LAYOUTS = {
    "names that begin so": (
        ["train2017/1.png", "train2017/2.png", "val2017/3.png"],
        ([], {"train": [None] * 2, "validation": [None]}),
    ),
    "validation and test alone": (
        ["val/a/1.png", "val/b/2.png", "test/a/3.png"],
        (["a", "b"], {"train": [], "validation": ["a", "b"], "test": ["a"]}),
    ),
    "ImageNet": (
        [
            "ILSVRC/Data/CLS-LOC/train/n01/1.png",
            "ILSVRC/Data/CLS-LOC/train/n02/2.png",
            "ILSVRC/Data/CLS-LOC/val/n02/3.png",
        ],
        (["n01", "n02"], {"train": ["n01", "n02"], "validation": ["n02"]}),
    ),
    "classes two folders deep": (
        ["train/animals/cat/1.png", "train/animals/dog/2.png", "train/cars/bus/3.png", "test/cars/bus/4.png"],
        (
            ["animals/cat", "animals/dog", "cars/bus"],
            {"train": ["animals/cat", "animals/dog", "cars/bus"], "test": ["cars/bus"]},
        ),
    ),
    "a folder of images within each class": (
        ["a/images/1.png", "b/images/2.png"],
        (["a", "b"], {"train": ["a", "b"]}),
    ),
    "folders of mixed depth": (["a/1.png", "a/x/2.png", "b/3.png"], (["a", "b"], {"train": ["a", "a", "b"]})),
    "one split": (["test/a/1.png", "test/b/2.png"], (["a", "b"], {"train": ["a", "b"]})),
    "two folders of one split": (
        ["train-1/a/1.png", "train-2/b/2.png", "test/a/3.png"],
        (["a", "b"], {"train": ["a", "b"], "test": ["a"]}),
    ),
    "classes called train and bus": (["bus/1.png", "train/2.png"], (["bus", "train"], {"train": ["bus", "train"]})),
    "a test split without labels": (
        ["train/a/1.png", "train/b/2.png", "test/3.png"],
        (["a", "b"], {"train": ["a", "b"], "test": [None]}),
    ),
    "labels of the test split alone": (
        ["train/1.png", "train/2.png", "test/a/3.png"],
        ([], {"train": [None, None], "test": [None]}),
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_that_people_have(tmp_path, layout):
    names, (classes, expected) = LAYOUTS[layout]
    write_images(tmp_path, names)
    data = images_of(tmp_path, validation=0, test=0)
    assert data.classes == classes
    for split in PARTS:
        part = getattr(data, split)
        labels = [None] * len(part) if part.labels is None else [classes[label] for label in part.labels]
        assert labels == expected.get(split, [])
    counts = ", ".join(f"{len(expected.get(split, []))} {split}" for split in PARTS)
    kinds = f"{len(classes)} classes" if classes else "no classes"
    assert data.summary == f"{tmp_path}: {counts} images; {kinds}; 0 files skipped"
    assert len(data.all) == len(names)


def test_a_stray_image_beside_classes_is_passed_over_by_name(tmp_path, caplog):
    write_images(tmp_path, ["a/1.png", "b/2.png", "b/3.png", "cover.png"])
    data = images_of(tmp_path, validation=0, test=0)
    assert data.train.labels.tolist() == [0, 1, 1]
    assert data.skipped == [(str(tmp_path / "cover.png"), "beside the folders of the classes")]
    assert str(tmp_path / "cover.png") in caplog.text


def test_a_class_of_one_split_is_said(tmp_path, caplog):
    write_images(tmp_path, ["train/a/1.png", "val/a/2.png", "val/b/3.png"])
    assert images_of(tmp_path).classes == ["a", "b"]
    assert "classes without a training image, only in validation: b" in caplog.text


def test_a_subset_has_all_classes_and_holds_the_smaller_ones(tmp_path):
    write_images(tmp_path, [f"{label}/{index}.png" for label in range(5) for index in range(40)])
    train = images_of(tmp_path, validation=0, test=0).train
    some = train.subset(50)
    assert set(some.labels.tolist()) == set(range(5))
    assert max(np.bincount(some.labels)) < 25
    np.testing.assert_array_equal(train.subset(20).pixels, some.pixels[:20])
    where = {pixels.tobytes(): label for pixels, label in zip(train.pixels, train.labels, strict=True)}
    assert all(where[pixels.tobytes()] == label for pixels, label in zip(some.pixels, some.labels, strict=True))
    assert len(train.subset(1000)) == 200
    assert len(train.subset(0)) == 0


def test_a_stream_is_never_whole(tmp_path):
    import datasets

    write_images(tmp_path, ["0.png"])
    cells = [{"bytes": (tmp_path / "0.png").read_bytes(), "path": None}] * 3
    features = datasets.Features({"image": datasets.Image()})
    datasets.Dataset.from_dict({"image": cells}, features=features).to_parquet(tmp_path / "set" / "train.parquet")
    data = images_of(f"hf:{tmp_path / 'set'}", streaming=True, size=4, channels=1, validation=0, test=0)
    with pytest.raises(DataError, match="a stream cannot be used as a whole"):
        _ = data.all
