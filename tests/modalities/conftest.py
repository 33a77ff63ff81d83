import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("NARROWS_CACHE", str(folder))
    return folder / "images"


@pytest.fixture
def write(tmp_path, noise):
    """Write an image below tmp_path / 'set', random RGB unless pixels are given; return its pixels."""

    def write_image(name, height=8, width=8, pixels=None):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = noise(height, width, 3) if pixels is None else pixels
        Image.fromarray(pixels).save(path)
        return pixels

    return write_image
