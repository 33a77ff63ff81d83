import io
import itertools
import json
import os
import shutil
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from narrows.data import BatchPlan, DataError, differences
from narrows.modalities.images import stream as stream_module
from narrows.modalities.images.images import open_images
from narrows.modalities.images.settings import ImageSettings
from narrows.modalities.images.stream import StreamedImages

NAMES = ["cat", "dog", "eel"]


@pytest.fixture(autouse=True)
def hub_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("hub"))
    datasets.disable_progress_bars()


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def level(row):
    """A 4x4 grey image that tells its row."""
    return png(np.full((4, 4), row, np.uint8))


def table(path, count=10, first=0, features=None, **columns):
    """Write a Parquet file of images that tell their rows, with class labels unless other columns are given."""
    columns = {"image": [level(first + row) for row in range(count)]} | columns
    if features is None:
        features = {"image": datasets.Image()}
    if "label" not in columns:
        columns["label"] = [row % 3 for row in range(count)]
        features = features | {"label": datasets.ClassLabel(names=NAMES)}
    path.parent.mkdir(parents=True, exist_ok=True)
    features = datasets.Features(features | {name: features.get(name) or datasets.Value("int64") for name in columns})
    datasets.Dataset.from_dict(columns, features=features).to_parquet(path)


def opened(source, **settings):
    return open_images(ImageSettings(**({"source": str(source), "validation": 0, "test": 0} | settings)))


def rows_of(images):
    return images.pixels[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("inside", ["", "data"])
@pytest.mark.parametrize("prefix", ["", "hf:"])
def test_a_folder_laid_out_as_the_hub_does(inside, prefix, tmp_path):
    table(tmp_path / inside / "train-00000-of-00002.parquet", 6)
    table(tmp_path / inside / "train-00001-of-00002.parquet", 4, first=6)
    table(tmp_path / inside / "test-00000-of-00001.parquet", 3, first=10)
    data = opened(f"{prefix}{tmp_path}", validation=0.2)
    assert data.spec.shape == (1, 4, 4)
    assert data.classes == NAMES
    assert sorted(rows_of(data.train) + rows_of(data.validation)) == list(range(10))
    assert len(data.validation) == 2
    assert rows_of(data.test) == [10, 11, 12]
    assert data.test.labels.tolist() == [0, 1, 2]
    labels = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])
    labels[6:] = [0, 1, 2, 0]
    np.testing.assert_array_equal(data.train.labels, labels[rows_of(data.train)])


def test_one_file_is_all_for_training(tmp_path):
    table(tmp_path / "test-00000-of-00001.parquet")
    assert rows_of(opened(tmp_path / "test-00000-of-00001.parquet").train) == list(range(10))


def test_a_changed_file_is_read_again(tmp_path):
    file = tmp_path / "train.parquet"
    table(file, 3)
    assert len(opened(file, memory_limit_gb=0, size=4).train) == 3
    table(file, 3, first=100)
    os.utime(file, (1, 1))
    assert rows_of(opened(file, memory_limit_gb=0, size=4).train) == [100, 101, 102]


def test_plain_bytes_and_structs_without_features(tmp_path):
    binary = datasets.Value("binary")
    cells = [level(row) for row in range(3)]
    table(tmp_path / "a.parquet", image=[cell["bytes"] for cell in cells], label=[0, 1, 2], features={"image": binary})
    struct = {"bytes": binary, "path": datasets.Value("string")}
    table(tmp_path / "b.parquet", image=cells, label=[0, 1, 2], features={"image": struct})
    for name in "ab":
        assert rows_of(opened(tmp_path / f"{name}.parquet").train) == [0, 1, 2]


def test_labels_without_names(tmp_path):
    table(tmp_path / "numbers.parquet", 3, label=[3, 1, 1])
    data = opened(tmp_path / "numbers.parquet")
    assert (data.classes, data.train.labels.tolist()) == (["0", "1", "2", "3"], [3, 1, 1])
    words = {"image": datasets.Image(), "label": datasets.Value("string")}
    table(tmp_path / "words.parquet", 3, label=["owl", "ant", "owl"], features=words)
    data = opened(tmp_path / "words.parquet")
    assert (data.classes, data.train.labels.tolist()) == (["ant", "owl"], [1, 0, 1])


def test_a_test_split_without_labels(tmp_path):
    classes = {"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)}
    table(tmp_path / "train-0.parquet", 3)
    table(tmp_path / "test-0.parquet", 3, label=[-1, -1, -1], features=classes)
    assert opened(tmp_path).test.labels is None
    table(tmp_path / "test-0.parquet", 3, label=[0, -1, 2], features=classes)
    with pytest.raises(DataError, match=f"{tmp_path} test row 1: label -1 is not one of its 3 classes"):
        opened(tmp_path)


def test_which_column(tmp_path):
    file = tmp_path / "a.parquet"
    two = {"image": datasets.Image(), "mask": datasets.Image()}
    table(file, 2, mask=[level(100), level(101)], features=two)
    listed = f"the columns of {file} are image, mask, label"
    with pytest.raises(DataError, match=f"set data.image_column; {listed}"):
        opened(file)
    assert rows_of(opened(file, image_column="mask").train) == [100, 101]
    with pytest.raises(DataError, match=f"data.image_column is 'picture', but {listed}"):
        opened(file, image_column="picture")
    with pytest.raises(DataError, match=f"data.label_column is 'kind', but {listed}"):
        opened(file, image_column="mask", label_column="kind")
    with pytest.raises(DataError, match=r"data\.label_column 'image' has Image.*not one label per row"):
        opened(file, image_column="mask", label_column="image")


def test_several_label_columns(tmp_path):
    fine, coarse = datasets.ClassLabel(names=NAMES), datasets.ClassLabel(names=["x"])
    kinds = {"image": datasets.Image(), "fine": fine, "coarse": coarse}
    table(tmp_path / "a.parquet", 3, fine=[2, 1, 0], coarse=[0, 0, 0], label=[5, 5, 5], features=kinds)
    with pytest.raises(DataError, match=r"several columns have labels \(fine, coarse\): set data.label_column"):
        opened(tmp_path / "a.parquet")
    data = opened(tmp_path / "a.parquet", label_column="fine")
    assert (data.classes, data.train.labels.tolist()) == (NAMES, [2, 1, 0])


def test_no_image_column(tmp_path):
    datasets.Dataset.from_dict({"text": ["a"], "label": [0]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=f"set data.image_column; the columns of {tmp_path}/a.parquet are text, label"):
        opened(tmp_path / "a.parquet")


def test_bad_rows_are_named_and_skipped(tmp_path):
    cells = [level(0), {"bytes": b"junk", "path": None}, None, level(3)]
    table(tmp_path / "a.parquet", 4, image=cells)
    data = opened(tmp_path / "a.parquet")
    assert rows_of(data.train) == [0, 3]
    assert data.train.labels.tolist() == [0, 0]
    assert [name for name, _ in data.skipped] == [f"{tmp_path}/a.parquet train row {row}" for row in (1, 2)]
    with pytest.raises(DataError, match=r"a\.parquet train row 1: not an image"):
        opened(tmp_path / "a.parquet", strict=True)


@pytest.mark.parametrize("streaming", [{}, {"streaming": True, "size": 4, "channels": 1}])
def test_what_cannot_be_loaded(streaming, tmp_path):
    (tmp_path / "train.parquet").write_bytes(b"PAR1 this is no table PAR1")
    with pytest.raises(DataError, match=f"data.source hf:{tmp_path} cannot be loaded: .*Parquet"):
        opened(f"hf:{tmp_path}", **streaming)


def test_a_set_that_cannot_be_reached(monkeypatch):
    def unreachable(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(DataError, match=r"data\.source hf:someone/pictures cannot be loaded: no network"):
        opened("hf:someone/pictures")


def test_a_folder_of_images_by_way_of_datasets(tmp_path):
    for row in range(6):
        path = tmp_path / "train" / NAMES[row % 3] / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(level(row)["bytes"])
    data = opened(f"hf:{tmp_path}")
    assert data.classes == NAMES
    np.testing.assert_array_equal(data.train.labels, np.array(rows_of(data.train)) % 3)
    assert sorted(rows_of(data.train)) == list(range(6))


def test_splits_without_training(tmp_path):
    table(tmp_path / "test-0.parquet")
    table(tmp_path / "validation-0.parquet")
    data = opened(tmp_path)
    assert (len(data.train), len(data.validation), len(data.test)) == (0, 10, 10)
    assert len(data.all) == 20
    with pytest.raises(DataError, match="only 0 examples to train on"):
        data.train.batches(BatchPlan(1))
    with pytest.raises(DataError, match="has no training split to stream, only validation, test"):
        opened(f"hf:{tmp_path}", streaming=True, size=4, channels=1)


# Streams


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A set of 20 training rows in 2 files, whose images tell their rows, streamed through a buffer of 8."""
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0, raising=False)
    monkeypatch.setattr(stream_module, "BUFFER", 8)
    table(tmp_path / "train-00000-of-00002.parquet", 12)
    table(tmp_path / "train-00001-of-00002.parquet", 8, first=12)
    return tmp_path


def streamed(folder, **settings):
    return opened(f"hf:{folder}", **({"streaming": True, "size": 4, "channels": 1} | settings))


def first(images, count, batch_size=4, seed=3, **settings):
    with images.batches(BatchPlan(batch_size, seed, **settings)) as loader:
        return list(itertools.islice(loader, count))


def same(left, right):
    return len(left) == len(right) and all(
        torch.equal(a, b) for one, other in zip(left, right, strict=True) for a, b in zip(one, other, strict=True)
    )


def test_a_stream_has_every_row_once_an_epoch(hub):
    data = streamed(hub)
    assert isinstance(data.train, StreamedImages)
    batches = first(data.train, 10)
    rows = torch.cat([pixels[:, 0, 0, 0] for pixels, _ in batches])
    for epoch in rows.reshape(2, 20).tolist():
        assert sorted(epoch) == list(range(20))
        assert epoch != list(range(20))
    assert rows[:20].tolist() != rows[20:].tolist()
    assert data.classes == NAMES
    for pixels, labels in batches:
        place = pixels[:, 0, 0, 0] % 12
        assert torch.equal(labels, place.long() % 3)


def describe(folder, rows):
    """Say in the set's card how many training rows there are, as the hub does."""
    (folder / "README.md").write_text(
        f"---\ndataset_info:\n  splits:\n  - name: train\n    num_examples: {rows}\n---\n"
    )


@pytest.mark.parametrize("length", [20, None])
def test_a_stream_resumes_at_any_step(length, hub):
    if length is not None:
        describe(hub, length)
    data = streamed(hub, flip=True)
    assert data.train.length == length
    whole = first(data.train, 8, batch_size=6)
    for start in (1, 3, 4, 7):
        assert same(first(data.train, 8 - start, batch_size=6, start=start), whole[start:])


def test_the_processes_share_the_batch_of_a_stream(hub):
    table(hub / "train-00001-of-00002.parquet", image=[png(np.arange(16, dtype=np.uint8).reshape(4, 4))] * 10)
    data = streamed(hub, flip=True)
    parts = [first(data.train, 6, rank=rank, processes=2) for rank in range(2)]
    joined = [tuple(map(torch.cat, zip(*step, strict=True))) for step in zip(*parts, strict=True)]
    assert same(joined, first(data.train, 6))
    assert len({pixels.numpy().tobytes() for step in joined for pixels in step[0]}) > 12  # some are mirrored


@pytest.mark.parametrize("length", [20, None])
def test_a_stream_holds_rows_out_by_their_bytes(length, hub):
    if length is not None:
        describe(hub, length)
    settings = {"validation": 0.2, "test": 0.3}
    data, whole = streamed(hub, **settings), opened(hub, **settings)
    held = [*rows_of(data.validation), *rows_of(data.test)]
    assert rows_of(data.validation) == rows_of(whole.validation)
    assert rows_of(data.test) == rows_of(whole.test)
    assert data.test.labels.tolist() == [row % 12 % 3 for row in rows_of(data.test)]
    assert 0 < len(held) < 20
    rows = torch.cat([pixels[:, 0, 0, 0] for pixels, _ in first(data.train, 20 - len(held), batch_size=1)])
    assert sorted([*rows.tolist(), *held]) == list(range(20))
    following = first(data.train, 3 * (20 - len(held)), batch_size=1)
    for start in (1, len(following) // 2, len(following) - 1):
        assert same(first(data.train, len(following) - start, batch_size=1, start=start), following[start:])


def test_rows_added_before_others_move_none_of_a_streams_splits(hub):
    settings = {"validation": 0.2, "test": 0.3}
    before = streamed(hub, **settings)
    table(hub / "train-00000-of-00003.parquet", 9, first=100)
    after = streamed(hub, **settings)
    for part in ("validation", "test"):
        kept = [row for row in rows_of(getattr(after, part)) if row < 100]
        assert kept == rows_of(getattr(before, part))


def test_only_so_many_rows_of_a_stream_are_searched_and_held_out(hub, monkeypatch):
    monkeypatch.setattr(stream_module, "HELD_OUT", 2)
    assert len(streamed(hub, validation=0.5).validation) == 2
    monkeypatch.setattr(stream_module, "SEARCHED", 1)
    assert len(streamed(hub, validation=0.98).validation) == 1


def test_a_stream_with_splits_of_its_own(hub):
    table(hub / "test-00000-of-00001.parquet", 3, first=100)
    data = streamed(hub, validation=0.3, test=0.2)
    assert rows_of(data.test) == [100, 101, 102]
    assert rows_of(data.validation) == rows_of(opened(hub, validation=0.3).validation)


def test_a_stream_is_told_from_another(hub, tmp_path_factory):
    before, folder = streamed(hub), tmp_path_factory.mktemp("copies")
    shutil.copytree(hub, folder / hub.name)
    assert differences(before.digest, streamed(folder / hub.name).digest) is None
    shutil.copytree(hub, folder / "other")
    assert differences(before.digest, streamed(folder / "other").digest) == "train: a different stream"
    assert "train: a different stream" in (differences(before.digest, streamed(hub, test=0.5).digest) or "")
    assert json.dumps(before.digest)


def test_bad_rows_of_a_stream_are_replaced(hub, caplog):
    junk = {"bytes": b"junk", "path": None}
    table(hub / "train-00001-of-00002.parquet", 8, image=[*[junk] * 3, *map(level, range(15, 20))])
    data = streamed(hub)
    pixels, labels = map(torch.cat, zip(*first(data.train, 5), strict=True))
    rows = pixels[:, 0, 0, 0]
    assert len(rows) == 20
    assert set(rows.tolist()) == set(range(20)) - {12, 13, 14}
    assert torch.equal(labels, rows.long() % 12 % 3)
    assert len(data.skipped) >= 3
    assert "a row cannot be read: not an image" in caplog.text
    with pytest.raises(DataError, match=r"a row of the stream\): not an image"):
        first(streamed(hub, strict=True).train, 5)
    table(hub / "train-00000-of-00002.parquet", 12, image=[junk] * 12)
    with pytest.raises(DataError, match="no image of a batch can be read"):
        first(streamed(hub).train, 20, batch_size=1)


def test_a_stream_shorter_than_described(hub):
    describe(hub, 25)
    data = streamed(hub)
    with pytest.raises(DataError, match="streamed 20 rows, but its description states 25"):
        first(data.train, 10)
    (hub / "README.md").unlink()
    with pytest.raises(DataError, match="has 20 rows and none to train on"):
        first(streamed(hub, validation=0.6, test=0.6).train, 1)


@pytest.mark.skipif("NARROWS_DATA" not in os.environ, reason="NARROWS_DATA does not name the folder of real sets")
def test_cifar10():
    source = Path(os.environ["NARROWS_DATA"]) / "cifar10"
    data = opened(source, validation=0.05, size=32, channels=3)
    assert len(data.train) + len(data.validation) == 50000
    assert abs(len(data.validation) - 2500) < 200
    assert len(data.test) == 5000
    counts = np.bincount(np.concatenate([data.train.labels, data.validation.labels]))
    assert counts.tolist() == [5000] * 10
    assert data.classes[:2] == ["airplane", "automobile"]
    pixels, labels = first(streamed(source, size=32, channels=3).train, 1, batch_size=8)[0]
    assert pixels.shape == (8, 3, 32, 32)
    for image, label in zip(pixels.numpy(), labels, strict=True):
        place = np.flatnonzero((data.train.pixels == image).all((1, 2, 3)))
        assert len(place) == 0 or data.train.labels[place[0]] == label
