import re

import numpy as np
import pytest

from narrows.data import DataError
from narrows.modalities.images.images import open_images
from narrows.modalities.images.settings import ImageSettings


def opened(source, **settings):
    return open_images(ImageSettings(source=str(source), **{"validation": 0, "test": 0, **settings}))


def test_frames_with_actions_by_split(tmp_path, noise):
    train, test = noise(6, 5, 7, 3), noise(4, 5, 7, 3)
    for name, frames in (("train", train), ("test", test)):
        np.savez_compressed(tmp_path / f"{name}.npz", frames=frames, actions=np.arange(len(frames), dtype=np.int8) % 3)
    data = opened(tmp_path)
    np.testing.assert_array_equal(data.train.pixels, train.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(data.test.pixels, test.transpose(0, 3, 1, 2))
    assert (data.spec.shape, data.classes, len(data.validation)) == ((3, 5, 7), [], 0)
    labelled = opened(tmp_path, label_column="actions")
    assert labelled.classes == ["0", "1", "2"]
    np.testing.assert_array_equal(labelled.test.labels, [0, 1, 2, 0])


@pytest.mark.parametrize(("shape", "channels"), [((4, 5), 1), ((4, 5, 1), 1), ((4, 5, 3), 3)])
def test_npy_of_every_colour(tmp_path, noise, shape, channels):
    pixels = noise(3, *shape)
    np.save(tmp_path / "pixels.npy", pixels)
    data = opened(tmp_path / "pixels.npy")
    np.testing.assert_array_equal(data.train.pixels, pixels.reshape(3, 4, 5, channels).transpose(0, 3, 1, 2))


def test_transparent_pixels_are_blended_with_white(tmp_path):
    np.save(tmp_path / "pixels.npy", np.array([[[[9, 9, 9, 255], [9, 9, 9, 0]]]], np.uint8))
    assert opened(tmp_path).train.pixels[0, :, 0].T.tolist() == [[9, 9, 9], [255, 255, 255]]


def test_several_files_of_one_split_and_of_several_sizes(tmp_path, noise):
    parts = [noise(3, 4, 4), noise(2, 6, 6)]
    for index, part in enumerate(parts):
        np.savez(tmp_path / f"part-{index}.npz", images=part, names=np.array(["a", "b", "a"][: len(part)]))
    data = opened(tmp_path, size=4, label_column="names")
    assert len(data.train) == 5
    np.testing.assert_array_equal(data.train.pixels[:3, 0], parts[0])
    assert [data.classes[label] for label in data.train.labels] == ["a", "b", "a", "a", "b"]
    np.savez(tmp_path / "test-0.npz", images=parts[0])
    np.savez(tmp_path / "train-0.npz", images=parts[1])
    split = opened(tmp_path, size=4)
    assert (len(split.train), len(split.test)) == (2, 3)
    assert [reason for _, reason in split.skipped] == ["not of a split by its name, beside files that are"] * 2


def test_held_out_images_stay_held_out_when_others_are_added(tmp_path, noise):
    pixels = noise(40, 4, 4)
    np.save(tmp_path / "a.npy", pixels[:30])
    before = opened(tmp_path, validation=0.3)
    np.save(tmp_path / "a.npy", pixels)
    after = {image.tobytes() for image in opened(tmp_path, validation=0.3).validation.pixels}
    assert 0 < len(before.validation) < 30
    assert all(image.tobytes() in after for image in before.validation.pixels)


@pytest.mark.parametrize(
    ("arrays", "settings", "message"),
    [
        ({"x": np.zeros((2, 3, 8, 8), np.uint8)}, {}, r"no array of images: .* it has x uint8 \[2, 3, 8, 8\]"),
        ({"x": np.zeros((2, 8, 8), np.float32)}, {}, r"x float32 \[2, 8, 8\]"),
        ({"x": np.zeros((2, 8, 8), np.uint8), "y": np.zeros((2, 8, 8), np.uint8)}, {}, "several arrays of images"),
        ({"x": np.zeros((2, 8, 8), np.uint8)}, {"image_column": "y"}, "image_column is 'y', but the arrays have x"),
        ({"x": np.zeros(2, np.uint8)}, {"image_column": "x"}, r"image_column 'x' is uint8 \[2\]"),
        (
            {"x": np.zeros((2, 8, 8), np.uint8), "y": np.zeros(3, int)},
            {"label_column": "y"},
            r"label_column 'y' is int64 \[3\]; the labels of 2 images",
        ),
        ({"x": np.array([{"a": 1}], object)}, {}, "not a file of NumPy arrays, or is damaged"),
    ],
)
def test_other_arrays_are_refused(tmp_path, arrays, settings, message):
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(DataError, match=message) as error:
        opened(tmp_path, **settings)
    assert re.search(r"data\.npz", str(error.value))


def test_one_of_several_arrays_and_damaged_files(tmp_path, noise):
    pixels = noise(2, 8, 8)
    np.savez(tmp_path / "data.npz", x=np.zeros((2, 8, 8), np.uint8), y=pixels)
    np.testing.assert_array_equal(opened(tmp_path, image_column="y").train.pixels[:, 0], pixels)
    (tmp_path / "data.npz").write_bytes((tmp_path / "data.npz").read_bytes()[:200])
    with pytest.raises(DataError, match=r"data\.npz is not a file of NumPy arrays, or is damaged"):
        opened(tmp_path)
