from __future__ import annotations

import numpy as np
import pytest
import torch

from narrows.data import Spec
from narrows.modalities.images.modality import MODALITY
from narrows.modality import Row
from narrows.report.page import COLUMN, Picture
from narrows.report.pictures import grid, versions_grid


def noise(*shape: int) -> torch.Tensor:
    """Images of 8-bit levels over 255, so that they return exactly."""
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)) / 255


def colours(image: torch.Tensor) -> np.ndarray:
    """An image [C, H, W] as the [H, W, 4] it should be in a picture."""
    levels = (image * 255).round().to(torch.uint8).expand(3, -1, -1).permute(1, 2, 0)
    return np.dstack([levels.numpy(), np.full(levels.shape[:2], 255, np.uint8)])


def pairs(originals: torch.Tensor, reconstructions: torch.Tensor) -> Picture:
    return versions_grid({"original": originals, "reconstruction": reconstructions}, "Pairs.")


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_holds_each_image_at_its_place_and_is_transparent_elsewhere(channels: int) -> None:
    images = noise(5, channels, 8, 6)
    pixels = grid(images, columns=3).pixels
    assert pixels.shape == (8 + 1 + 8, 6 + 1 + 6 + 1 + 6, 4)
    for place, image in enumerate(images):
        top, left = place // 3 * 9, place % 3 * 7
        np.testing.assert_array_equal(pixels[top : top + 8, left : left + 6], colours(image))
    assert (pixels[..., 3] > 0).sum() == 5 * 8 * 6


def test_originals_stand_directly_above_their_reconstructions() -> None:
    originals, reconstructions = noise(3, 3, 32, 32), 1 - noise(3, 3, 32, 32)
    pixels = pairs(originals, reconstructions).pixels
    for place in range(3):
        left = place * 33
        np.testing.assert_array_equal(pixels[:32, left : left + 32], colours(originals[place]))
        np.testing.assert_array_equal(pixels[33:65, left : left + 32], colours(reconstructions[place]))
    assert pixels.shape == (65, 98, 4)


def test_an_interpolation_is_a_row() -> None:
    images = noise(2, 4, 1, 8, 8)
    picture = MODALITY.show_rows([Row("", list(walk)) for walk in images], Spec((1, 8, 8)), "Walks.")
    np.testing.assert_array_equal(picture.pixels[9:17, 27:35], colours(images[1, 3]))
    assert picture.pixels.shape == (17, 35, 4)
    assert list(picture.row_labels) == []


def test_rows_bear_their_names() -> None:
    rows = [Row(name, list(noise(3, 1, 8, 8))) for name in ("cat", "dog")]
    assert list(MODALITY.show_rows(rows, Spec((1, 8, 8)), "Samples.").row_labels) == ["cat", "dog"]


def test_three_versions_are_rows_that_bear_their_names() -> None:
    versions = dict(zip(("original", "first stage", "second stage"), noise(3, 4, 1, 8, 8), strict=True))
    picture = versions_grid(versions, "Versions.")
    assert list(picture.row_labels) == list(versions)
    for row, images in enumerate(versions.values()):
        for column, image in enumerate(images):
            top, left = 9 * row, 9 * column
            np.testing.assert_array_equal(picture.pixels[top : top + 8, left : left + 8], colours(image))


def test_arrays_and_tensors_give_the_same_picture() -> None:
    images = noise(4, 3, 8, 8).double()
    np.testing.assert_array_equal(grid(images, 2).pixels, grid(images.numpy(), 2).pixels)


def test_values_beyond_the_unit_interval_are_clipped() -> None:
    pixels = grid(torch.tensor([-0.5, 1.5]).view(1, 1, 1, 2), 1).pixels
    assert pixels[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize("side", [8, 16, 28, 32, 64])
@pytest.mark.parametrize("count", [1, 7, 40])
def test_small_images_stay_within_the_column(side: int, count: int) -> None:
    for picture in (
        pairs(noise(count, 1, side, side), noise(count, 1, side, side)),
        grid(noise(count, 1, side, side), 8),
    ):
        assert picture.pixels.shape[1] * picture.magnification <= COLUMN
    assert 56 <= side * picture.magnification <= 96


def test_large_images_keep_their_size() -> None:
    assert grid(noise(4, 3, 256, 256), 4).magnification == 1


def test_rows_are_labelled_one_by_one() -> None:
    assert grid(noise(5, 1, 8, 8), 3, ["cat", "dog"]).row_labels == ["cat", "dog"]
    with pytest.raises(ValueError, match="2 rows needs as many row labels; got 3"):
        grid(noise(5, 1, 8, 8), 3, ["cat", "dog", "ship"])


@pytest.mark.parametrize(
    ("images", "complaint"),
    [
        (torch.rand(3, 8, 8), r"\[N, C, H, W\]"),
        (torch.rand(2, 2, 8, 8), "1 or 3 channels"),
        (torch.rand(0, 3, 8, 8), r"\[0, 3, 8, 8\]"),
        (torch.zeros(1, 1, 8, 8, dtype=torch.uint8), "divide the levels by 255"),
        (torch.full((1, 1, 8, 8), float("nan")), "not finite"),
    ],
)
def test_what_is_no_batch_of_images_is_refused(images: torch.Tensor, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        grid(images, 2)


def test_mismatched_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one shape; got original \[2, .*, reconstruction \[3, "):
        pairs(noise(2, 1, 8, 8), noise(3, 1, 8, 8))
    with pytest.raises(ValueError, match="at least one column"):
        grid(noise(2, 1, 8, 8), 0)
