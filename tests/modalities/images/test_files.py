import pytest
import torch
from PIL import Image

from narrows.data import DataError
from narrows.data.pixels import save_picture, to_unit
from narrows.modalities.images.files import read_images


@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_saved_is_read(channels, tmp_path, noise):
    levels = torch.from_numpy(noise(2, channels, 4, 4))
    paths = [tmp_path / "deep" / f"{index}.png" for index in range(2)]
    for path, image in zip(paths, levels, strict=True):
        save_picture(path, to_unit(image))
    assert Image.open(paths[0]).mode == ("L" if channels == 1 else "RGB")
    read = read_images(paths, (channels, 4, 4))
    assert read.dtype == torch.uint8
    assert torch.equal(read, levels)
    assert read_images(paths, (3, 2, 2)).shape == (2, 3, 2, 2)


def test_unreadable_files_are_named(tmp_path):
    (tmp_path / "junk.png").write_bytes(b"junk")
    with pytest.raises(DataError, match=f"{tmp_path / 'junk.png'}: not an image"):
        read_images([tmp_path / "junk.png"], (1, 2, 2))
    with pytest.raises(DataError, match=r"none\.png.*No such file"):
        read_images([tmp_path / "none.png"], (1, 2, 2))
