"""Continuing motions: the known codes are kept, the frames of the file too, and the rest is drawn from the prior."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from narrows.cli import main
from narrows.errors import NarrowsError
from narrows.modalities.motion.bvh import read_bvh, write_bvh
from narrows.modalities.motion.continuation import continue_motion
from narrows.modalities.motion.modality import MODALITY
from narrows.pretrained import load
from narrows.priors import continue_codes
from narrows.sampling import Sampling
from tests.modalities.motion.helpers import walker, write_walks
from tests.modalities.motion.test_cli import PRIOR, RECIPE

WINDOW, HOP = 4, 4
"""Codes of the prior of the tiny run, and the frames of each."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VQ-VAE of walks with a prior, one without, and a VAE."""
    place = tmp_path_factory.mktemp("continued")
    write_walks(place / "walks")
    (place / "tiny.yaml").write_text(RECIPE)
    (place / "prior.yaml").write_text(PRIOR)
    for variant, name in (("vq", "run"), ("vq", "bare"), ("vae", "vae")):
        out = ["--variant", variant, "--data", str(place / "walks"), "--out", str(place / name)]
        assert main(["train", str(place / "tiny.yaml"), *out]) == 0
    assert main(["prior", str(place / "run"), "--recipe", str(place / "prior.yaml")]) == 0
    write_bvh(place / "a.bvh", walker(50))
    return place


@pytest.mark.parametrize("frames", [3, 8, 41])
def test_a_file_and_what_follows_it(place: Path, tmp_path: Path, frames: int) -> None:
    """The file's frames are as they were, and the new ones are decoded from the known codes and those drawn."""
    run = str(place / "run")
    sampling = Sampling(0.9, seed=3)
    page = continue_motion(run, place / "a.bvh", frames, 2, tmp_path, sampling, "walk", "gif" if frames == 3 else None)
    assert page == tmp_path / "index.html"
    assert "end of a.bvh" in page.read_text()
    assert sorted(path.name for path in tmp_path.glob("*.bvh")) == ["000.bvh", "001.bvh"]
    assert [Image.open(path).n_frames for path in sorted(tmp_path.glob("*.gif"))] == ([53, 53] if frames == 3 else [])
    model = load(run)
    assert model.prior is not None
    assert (model.prior.grid, model.hop) == ((WINDOW,), HOP)
    (x,) = MODALITY.read([place / "a.bvh"], model.spec)
    codes = model.encode(x[:, -WINDOW * HOP :].unsqueeze(0)).expand(2, -1)
    labels = torch.full((2,), model.classes.index("walk"))
    whole = continue_codes(model.prior, codes, -(-frames // HOP), labels, sampling)
    expected = model.decode(whole)[:, :, WINDOW * HOP :][:, :, :frames]
    for index, new in enumerate(expected):
        MODALITY.write(tmp_path / "expected.bvh", torch.cat([x, new], 1), model.spec)
        assert (tmp_path / f"{index:03}.bvh").read_bytes() == (tmp_path / "expected.bvh").read_bytes()
    original, found = (read_bvh(path.read_bytes()).values for path in (place / "a.bvh", tmp_path / "000.bvh"))
    assert len(found) == 50 + frames
    # All but the place and the heading, which start at the origin.
    np.testing.assert_allclose(found[:50, [1, *range(6, 18)]], original[:, [1, *range(6, 18)]], atol=0.01)


def test_the_root_goes_on_from_where_the_file_ends(place: Path, tmp_path: Path) -> None:
    """Its steps are its speed, of which the model knows no large one."""
    continue_motion(str(place / "run"), place / "a.bvh", 20, out=tmp_path, label="walk")
    path = read_bvh((tmp_path / "000.bvh").read_bytes()).values[:, [0, 2]]
    assert np.linalg.norm(path[49]) > 100
    assert np.linalg.norm(np.diff(path, axis=0), axis=1).max() < 20


def test_equal_seeds_and_others(place: Path, tmp_path: Path) -> None:
    command = ["continue", str(place / "run"), str(place / "a.bvh"), "--frames", "40", "--class", "run"]
    for name, seed in (("a", "5"), ("b", "5"), ("c", "6")):
        assert main([*command, "--temperature", "3", "--seed", seed, "--out", str(tmp_path / name)]) == 0
    first, again, other = ((tmp_path / name / "000.bvh").read_bytes() for name in "abc")
    assert first == again
    assert first != other
    assert main([*command, "-n", "3", "--top-k", "2", "--top-p", "0.9"]) == 0
    assert len(list((place / "run" / "continued").glob("*.bvh"))) == 3
    assert main(command) == 0
    assert [path.name for path in sorted((place / "run" / "continued").iterdir())] == ["000.bvh", "index.html"]


def test_a_file_of_one_code_is_long_enough(place: Path, tmp_path: Path) -> None:
    write_bvh(tmp_path / "short.bvh", walker(HOP + 1))
    continue_motion(str(place / "run"), tmp_path / "short.bvh", 30, out=tmp_path / "out", label="0")
    assert len(read_bvh((tmp_path / "out" / "000.bvh").read_bytes()).values) == HOP + 1 + 30


def test_what_cannot_be_continued(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_bvh(tmp_path / "short.bvh", walker(HOP - 1))
    good = str(place / "a.bvh")
    for run, file, options, message in (
        ("vae", good, [], "the latents of {run} are continuous"),
        ("bare", good, [], "{run} has no prior to draw codes from: fit one with `narrows prior {run}`"),
        ("run", good, [], "choose a class to continue as, with --class NAME; the classes are: run, walk"),
        ("run", good, ["--class", "jump"], "no class 'jump'; the classes are: 0 run, 1 walk"),
        ("run", str(tmp_path / "short.bvh"), ["--class", "run"], "short.bvh has 3 frames, less than the 4 of a code"),
        ("run", str(tmp_path / "no.bvh"), ["--class", "run"], "no.bvh: it cannot be read"),
    ):
        out = ["--frames", "8", "--out", str(tmp_path / "no")]
        assert main(["continue", str(place / run), file, *options, *out]) == 1
        error = "".join(capsys.readouterr().err.split())
        assert "".join(message.format(run=place / run).split()) in error
    assert not (tmp_path / "no").exists()


def test_numbers_below_one(place: Path) -> None:
    with pytest.raises(NarrowsError, match="--frames is 0"):
        continue_motion(str(place / "run"), place / "a.bvh", 0)
    with pytest.raises(NarrowsError, match="-n is 0"):
        continue_motion(str(place / "run"), place / "a.bvh", 8, 0)
