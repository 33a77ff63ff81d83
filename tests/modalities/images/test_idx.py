import gzip
import re
import struct

import numpy as np
import pytest

from narrows.data import DataError
from narrows.modalities.images.images import open_images
from narrows.modalities.images.settings import ImageSettings


def idx(array):
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def mnist(tmp_path, noise):
    """Ten training and four test images as MNIST is downloaded."""
    parts = {}
    for split, count in (("train", 10), ("t10k", 4)):
        parts[split] = noise(count, 5, 6), np.arange(count, dtype=np.uint8) % 3
        (tmp_path / f"{split}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(parts[split][0])))
        (tmp_path / f"{split}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(parts[split][1])))
    return tmp_path, parts


def opened(source, **settings):
    return open_images(ImageSettings(source=str(source), validation=0, test=0, **settings))


def test_a_folder_as_downloaded(mnist):
    folder, parts = mnist
    data = opened(folder)
    for split, images in (("train", data.train), ("t10k", data.test)):
        np.testing.assert_array_equal(images.pixels[:, 0], parts[split][0])
        np.testing.assert_array_equal(images.labels, parts[split][1])
    assert data.spec.shape == (1, 5, 6)
    assert data.classes == ["0", "1", "2"]
    assert len(data.validation) == 0


def test_unzipped_files_and_files_of_both_kinds(mnist):
    folder, parts = mnist
    zipped = folder / "train-images-idx3-ubyte.gz"
    (folder / "train-images-idx3-ubyte").write_bytes(gzip.decompress(zipped.read_bytes()))
    assert len(opened(folder).train) == 10
    zipped.unlink()
    np.testing.assert_array_equal(opened(folder).train.pixels[:, 0], parts["train"][0])


def test_one_file(mnist):
    folder, parts = mnist
    data = opened(folder / "t10k-images-idx3-ubyte.gz")
    np.testing.assert_array_equal(data.train.pixels[:, 0], parts["t10k"][0])
    np.testing.assert_array_equal(data.train.labels, parts["t10k"][1])
    assert len(data.test) == 0


def test_without_labels(mnist):
    folder, _ = mnist
    for file in folder.glob("*labels*"):
        file.unlink()
    data = opened(folder)
    assert (data.train.labels, data.classes) == (None, [])


def test_another_size(mnist):
    assert opened(mnist[0], size=4, channels=3).train.pixels.shape == (10, 3, 4, 4)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda plain: gzip.compress(plain)[:-20], "cannot be read: .*; download it again"),
        (lambda plain: b"\x1f\x8bjunk", "cannot be read: .*; download it again"),
        (lambda plain: plain[:-1], "should have .10, 5, 6. bytes of values but has 299"),
        (lambda plain: plain[:9], "should have .* bytes of values but has"),
        (lambda plain: plain + b"!", "should have .* but has 301"),
        (lambda plain: b"\0\0\x0d\x03" + plain[4:], "is not an IDX file of 3 dimensions: it starts with"),
        (lambda plain: b"", "is not an IDX file"),
    ],
)
def test_damaged_files_are_named(damage, message, mnist):
    file = mnist[0] / "train-images-idx3-ubyte.gz"
    file.write_bytes(damage(gzip.decompress(file.read_bytes())))
    with pytest.raises(DataError, match=f"{re.escape(str(file))} {message}"):
        opened(mnist[0])


def test_labels_that_do_not_match(mnist):
    file = mnist[0] / "train-labels-idx1-ubyte.gz"
    file.write_bytes(idx(np.zeros(9, np.uint8)))
    with pytest.raises(DataError, match=f"{file} has 9 labels for the 10 images of .*train-images"):
        opened(mnist[0])


def test_several_sets_in_one_folder(mnist):
    folder, _ = mnist
    (folder / "emnist-train-images-idx3-ubyte").write_bytes(b"")
    with pytest.raises(DataError, match=r"has several IDX data sets .*give one file as data\.source"):
        opened(folder)
