import io

import numpy as np
import pytest
from PIL import Image

from narrows.data import DataError
from narrows.data.pictures import Look, decode, look


def stored(image, form="PNG", **options):
    """The image as a file holds it, so that Pillow opens it lazily."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return Image.open(io.BytesIO(buffer.getvalue()))


# What turns the stored pixels upright, by EXIF orientation (CIPA DC-008, tag 0x0112).
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).T,
    8: lambda a: np.rot90(a, 1),
}


def test_grey_and_colour_are_exact(noise):
    grey, colour = noise(5, 7), noise(5, 7, 3)
    np.testing.assert_array_equal(decode(stored(Image.fromarray(grey)), (1, 5, 7)), grey[None])
    np.testing.assert_array_equal(decode(stored(Image.fromarray(colour)), (3, 5, 7)), colour.transpose(2, 0, 1))
    np.testing.assert_array_equal(decode(stored(Image.fromarray(grey)), (3, 5, 7)), np.stack([grey] * 3))


def test_colour_to_grey_is_601_luma():
    pixels = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    luma = decode(stored(Image.fromarray(pixels)), (1, 1, 3)).ravel()
    np.testing.assert_allclose(luma, [0.299 * 255, 0.587 * 255, 0.114 * 255], atol=1)


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation(orientation, noise):
    pixels = noise(3, 5)
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = UPRIGHT[orientation](pixels)
    image = stored(Image.fromarray(pixels), exif=exif)
    assert look(image) == Look(*upright.shape, grey=True)
    np.testing.assert_array_equal(decode(image, (1, *upright.shape))[0], upright)


def test_sixteen_bits_keep_their_range(noise):
    levels = noise(4, 4)
    image = stored(Image.fromarray(levels.astype(np.uint16) * 257))
    assert image.mode == "I;16"
    np.testing.assert_array_equal(decode(image, (1, 4, 4))[0], levels)


def test_what_is_transparent_shows_white():
    pixels = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 51]]], np.uint8)
    colours = decode(stored(Image.fromarray(pixels)), (3, 1, 3))[:, 0].T
    np.testing.assert_allclose(colours, [[10, 20, 30], [255] * 3, [204] * 3], atol=1)
    grey = decode(stored(Image.fromarray(np.array([[[10, 255], [10, 0]]], np.uint8), "LA")), (1, 1, 2))
    np.testing.assert_array_equal(grey, [[[10, 255]]])


def test_a_palette_is_looked_up():
    image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8))
    for colours, grey in (([9, 8, 7, 1, 2, 3], False), ([9, 9, 9, 3, 3, 3], True)):
        image.putpalette(colours)
        opened = stored(image)
        assert opened.mode == "P"
        assert look(opened).grey == grey
        expected = np.reshape(colours, (2, 3))[[[0, 1], [1, 0]]].transpose(2, 0, 1)
        np.testing.assert_array_equal(decode(opened, (3, 2, 2)), expected)


def test_bits_and_cmyk():
    bits = np.array([[True, False]])
    np.testing.assert_array_equal(decode(stored(Image.fromarray(bits)), (1, 1, 2)), [[[255, 0]]])
    cmyk = stored(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100)
    np.testing.assert_allclose(decode(cmyk, (3, 8, 8))[:, 4, 4], [255, 0, 0], atol=3)


def test_pixels_without_a_known_range_are_refused():
    with pytest.raises(DataError, match="8 or 16 bits"):
        decode(stored(Image.fromarray(np.zeros((2, 2), np.float32)), "TIFF"), (1, 2, 2))


def test_the_centre_is_kept(noise):
    wide, tall = noise(4, 10), noise(10, 4)
    np.testing.assert_array_equal(decode(stored(Image.fromarray(wide)), (1, 4, 4))[0], wide[:, 3:7])
    np.testing.assert_array_equal(decode(stored(Image.fromarray(tall)), (1, 4, 4))[0], tall[3:7])


def test_scaling_is_antialiased():
    checks = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    small = decode(stored(Image.fromarray(checks)), (1, 8, 8))[0, 1:-1, 1:-1].astype(int)
    assert abs(small - 127.5).max() < 4  # taking every eighth pixel would give 0 or 255


def test_a_large_jpeg_scaled_while_decoding_stays_close():
    y, x = np.mgrid[0:400, 0:600] / 100
    pixels = (127 + 100 * np.sin(3 * x) * np.cos(2 * y)).astype(np.uint8)
    jpeg = decode(stored(Image.fromarray(pixels), "JPEG", quality=98), (1, 32, 32)).astype(int)
    assert abs(jpeg - decode(stored(Image.fromarray(pixels)), (1, 32, 32))).max() <= 2


def test_binary_pixels():
    pixels = np.array([[0, 127, 128, 255]], np.uint8)
    binary = decode(stored(Image.fromarray(pixels)), (1, 1, 4), binary=True)
    assert binary.dtype == np.uint8
    np.testing.assert_array_equal(binary, [[[0, 0, 255, 255]]])
