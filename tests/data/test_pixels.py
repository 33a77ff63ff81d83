import numpy as np
import pytest
import torch
from PIL import Image

from narrows.data import DataError
from narrows.data.pixels import save_picture, tiled, to_uint8, to_unit


def test_levels_survive_the_round_trip():
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_unit(levels)), levels)
    assert to_unit(levels).dtype == torch.float32
    assert (to_unit(levels).min(), to_unit(levels).max()) == (0, 1)


def test_values_beyond_are_clipped_and_nan_is_refused():
    assert to_uint8(torch.tensor([-1.0, 0.5, 2.0])).tolist() == [0, 128, 255]
    with pytest.raises(DataError, match="not finite"):
        to_uint8(torch.tensor([float("nan")]))


def test_a_grid_places_every_image():
    images = torch.arange(5).float().reshape(5, 1, 1, 1).expand(5, 1, 2, 3) / 255
    sheet = tiled(images, columns=2, gap=1)
    expected = np.full((8, 7), 255)
    for index in range(5):
        row, column = divmod(index, 2)
        expected[3 * row : 3 * row + 2, 4 * column : 4 * column + 3] = index
    assert sheet.dtype == np.uint8
    np.testing.assert_array_equal(sheet, np.stack([expected] * 3, axis=-1))


def test_a_grid_is_saved_as_it_is(tmp_path, noise):
    sheet = noise(4, 6, 3)
    save_picture(tmp_path / "grid.png", sheet)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "grid.png")), sheet)


def test_nothing_is_left_of_a_picture_that_cannot_be_written(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"no image format has the extension '.txt'; use .png"):
        save_picture(tmp_path / "a.txt", torch.zeros(1, 2, 2))
    with pytest.raises(DataError, match="not finite"):
        save_picture(tmp_path / "a.png", torch.full((1, 2, 2), torch.inf))

    def full(self, path, form):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space left"):
        save_picture(tmp_path / "a.png", torch.zeros(1, 2, 2))
    assert not list(tmp_path.iterdir())
