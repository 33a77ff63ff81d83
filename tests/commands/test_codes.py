"""Files of codes: one documented layout, exact round trips, damage noticed, the layout of older versions read."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import narrows
from narrows.cli import main
from narrows.commands.codes import CodesOfFiles, read_codes, write_codes
from narrows.errors import NarrowsError
from narrows.files import distinct_stems
from narrows.modalities.images.images import open_images
from narrows.modalities.images.settings import ImageSettings
from narrows.pretrained import fingerprint


def codes_of(rng: np.random.Generator, shapes: list[tuple[int, ...]], kind: type) -> CodesOfFiles:
    parts = [rng.integers(0, 700, shape) if kind is int else rng.random(shape, np.float32) for shape in shapes]
    return CodesOfFiles(parts, [(8, 6)] * len(shapes), [f"a/ü {index}.png" for index in range(len(shapes))])


@pytest.mark.parametrize(
    ("shapes", "kind", "written"),
    [
        ([(4, 3), (4, 3)], int, (2, 4, 3)),
        ([(5,), (2,), (9,)], int, (3, 9)),
        ([(5, 2), (7, 2)], int, (2, 7, 2)),
        ([(6, 5), (6, 8)], float, (2, 6, 8)),
        ([(6, 4, 3)], float, (1, 6, 4, 3)),
    ],
    ids=["images", "sounds", "two codebooks", "latents of sound", "latents of images"],
)
def test_codes_come_back_as_they_were(
    trained: Path, tmp_path: Path, shapes: list[tuple[int, ...]], kind: type, written: tuple[int, ...]
) -> None:
    coded = codes_of(np.random.default_rng(0), shapes, kind)
    assert write_codes(tmp_path / "codes.npz", str(trained), coded).shape == written
    with np.load(tmp_path / "codes.npz") as content:
        assert content["codes"].dtype == (np.uint16 if kind is int else np.float32)
        assert content["names"].tolist() == coded.names
    again = read_codes(tmp_path / "codes.npz", str(trained))
    for part, expected in zip(again.codes, coded.codes, strict=True):
        np.testing.assert_array_equal(part, expected)
    assert (again.sizes, again.names) == (coded.sizes, coded.names)


def test_a_changed_value_is_noticed(trained: Path, tmp_path: Path) -> None:
    file = tmp_path / "codes.npz"
    write_codes(file, str(trained), codes_of(np.random.default_rng(0), [(4, 4)], int))
    with np.load(file) as content:
        arrays = dict(content)
    arrays["codes"][0, 1, 2] += 1
    np.savez_compressed(file, **arrays)
    with pytest.raises(NarrowsError, match="does not match its SHA-256"):
        read_codes(file, str(trained))


def test_a_newer_format_is_refused(trained: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "codes.npz", codes=np.zeros((1, 4, 4)), model=np.array("x"), format=np.array(99))
    with pytest.raises(NarrowsError, match="format 99, written by a newer version"):
        read_codes(tmp_path / "codes.npz", str(trained))


def test_the_layout_of_older_versions_is_read(trained: Path, tmp_path: Path) -> None:
    owner = np.array(fingerprint(trained))
    codes = np.arange(32, dtype=np.uint8).reshape(2, 4, 4)
    np.savez(tmp_path / "images.npz", codes=codes, names=np.array(["1.png", "2.png"]), model=owner)
    found = read_codes(tmp_path / "images.npz", str(trained))
    np.testing.assert_array_equal(np.stack(found.codes), codes)
    assert found.names == ["1.png", "2.png"]
    rest = {"lengths": np.array([3, 4]), "samples": np.array([23, 30]), "names": np.array(["a", "b"]), "model": owner}
    np.savez(tmp_path / "sounds.npz", codes=np.arange(7, dtype=np.uint8), **rest)
    found = read_codes(tmp_path / "sounds.npz", str(trained))
    assert [part.tolist() for part in found.codes] == [[0, 1, 2], [3, 4, 5, 6]]
    assert found.sizes == [(23,), (30,)]
    latents = np.arange(14, dtype=np.float32).reshape(7, 2)
    np.savez(tmp_path / "latents.npz", codes=latents, **rest)
    np.testing.assert_array_equal(read_codes(tmp_path / "latents.npz", str(trained)).codes[1], latents[3:].T)


def test_names_of_files_never_meet() -> None:
    assert distinct_stems(["a.png", "b/b.jpg"]) == ["a", "b"]
    assert distinct_stems(["a/1.png", "b/1.png"]) == ["a-1", "b-1"]
    assert distinct_stems(["a/1.png", "a/1.jpg"]) == ["000-a-1", "001-a-1"]
    assert distinct_stems(["x/a/1.png", "a/1.png"]) == ["000-a-1", "001-a-1"]
    assert distinct_stems(["A.png", "a.png"]) == ["000-A", "001-a"]


def test_files_of_one_name_are_decoded_to_two(trained: Path, tmp_path: Path) -> None:
    pixels = open_images(ImageSettings()).test.pixels[:2]
    files = [tmp_path / name / "1.png" for name in "ab"]
    for file, image in zip(files, pixels, strict=True):
        file.parent.mkdir()
        Image.fromarray(image[0]).save(file)
    codes, out = tmp_path / "codes.npz", tmp_path / "out"
    assert main(["encode", str(trained), *map(str, files), "-o", str(codes)]) == 0
    assert main(["decode", str(trained), str(codes), "-o", str(out)]) == 0
    assert sorted(file.name for file in out.iterdir()) == ["a-1.png", "b-1.png"]
    model = narrows.load(trained)
    expected = model.reconstruct(torch.from_numpy(pixels.copy()).float() / 255)
    for file, image in zip(files, expected, strict=True):
        decoded = np.asarray(Image.open(out / f"{file.parent.name}-1.png"))
        np.testing.assert_array_equal(decoded, (image[0] * 255).round().byte().numpy())


def test_what_encode_wrote_is_decoded_by_the_library(trained: Path) -> None:
    model = narrows.load(trained)
    x = torch.rand(3, 1, 8, 8)
    codes = model.encode(x)
    for dtype in (torch.uint8, torch.uint16, torch.int32):
        torch.testing.assert_close(model.decode(codes.to(dtype)), model.reconstruct(x), rtol=0, atol=0)


def test_every_flipped_byte_of_a_file_of_codes_is_noticed_or_harmless(trained: Path, tmp_path: Path) -> None:
    file = tmp_path / "codes.npz"
    coded = codes_of(np.random.default_rng(0), [(4, 3), (4, 3)], int)
    write_codes(file, str(trained), coded)
    whole = file.read_bytes()
    draw = np.random.default_rng(1)
    for position in draw.integers(0, len(whole), 60):
        flipped = bytes([whole[position] ^ 1 << int(draw.integers(8))])
        file.write_bytes(whole[:position] + flipped + whole[position + 1 :])
        found = coded
        with suppress(NarrowsError):
            found = read_codes(file, str(trained))
        for part, expected in zip(found.codes, coded.codes, strict=True):
            np.testing.assert_array_equal(part, expected)
        assert found.names == coded.names
