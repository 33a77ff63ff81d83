"""A model upon the codes of a run, by every command."""

import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import narrows
from narrows.cli import main
from narrows.modalities.recipes import resolve_training
from narrows.models import Stacked
from narrows.recipe import find_recipe
from narrows.training.run import RunFolder
from tests.conftest import TINY_MODEL

UPON = """
model:
  class_path: Stacked
  init_args:
    encoder: {class_path: GlobalEncoder, init_args: {width: 8, downsamplings: 1, blocks: 1}}
    bottleneck: {class_path: VectorQuantizer, init_args: {dim: 4, codebook_size: 8, codebooks: 3, commitment: 0.01}}
    context: {class_path: GlobalDecoder, init_args: {width: 8, upsamplings: 1, blocks: 1}}
    decoder: {class_path: GatedPixelCNN, init_args: {layers: 2, width: 8, first_kernel_size: 3, head_width: 8}}
    embedding: 4
    channels: 8
estimator: {class_path: Pathwise}
data: {source: digits}
training: {steps: 4, batch_size: 16, log_every: 1, validate_every: 4, validation_examples: 8, checkpoint_every: 2}
"""
PRIOR = """
prior: {class_path: TransformerPrior, init_args: {layers: 1, width: 8, heads: 2}}
training: {steps: 2, batch_size: 32, log_every: 1, validate_every: 2, checkpoint_every: 2}
"""
DIMENSIONS, CODES = 64, 16


@pytest.fixture(scope="module")
def folder(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recipes, and the run folders `vae` and `upon`, a model upon that of `trained`; not to be changed."""
    folder = tmp_path_factory.mktemp("stacked")
    (folder / "upon.yaml").write_text(UPON)
    (folder / "tiny.yaml").write_text(TINY_MODEL)
    vae = ["train", str(folder / "tiny.yaml"), "--variant", "vae", "--out", str(folder / "vae")]
    assert main([*vae, "--training.steps=1"]) == 0
    (folder / "prior.yaml").write_text(PRIOR)
    assert main(["train", str(folder / "upon.yaml"), "--on", str(trained), "--out", str(folder / "upon")]) == 0
    return folder


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> Path:
    """A copy of the run folder, to change."""
    return Path(shutil.copytree(folder / "upon", tmp_path / "run"))


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8), np.uint8)
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(image).save(path)
    return [str(path) for path in paths]


def test_a_saved_run_is_whole_without_the_first(run: Path, trained: Path, pictures: list[str]) -> None:
    model, below = narrows.load(run), narrows.load(trained)
    assert isinstance(model, Stacked)
    assert json.loads((run / "model" / "config.json").read_text())["model"]["class_path"] == "Stacked"
    x = torch.stack([torch.from_numpy(np.array(Image.open(path))) for path in pictures]).unsqueeze(1) / 255
    torch.testing.assert_close(model.first.encode(x), below.encode(x))
    assert model.encode(x).shape == (3, 1, 3)
    moved = run.rename(run.with_name("moved"))
    assert torch.equal(narrows.load(moved).encode(x), model.encode(x))
    first = model.first.state_dict()
    for name, value in narrows.load(moved).first.state_dict().items():
        assert torch.equal(value, first[name])
    (moved / "first" / "model" / "model.safetensors").write_bytes(b"")
    with pytest.raises(narrows.NarrowsError, match="moved/first/model"):
        narrows.load(moved)


def test_a_resumed_run_is_the_uninterrupted_one(folder: Path, trained: Path, tmp_path: Path) -> None:
    command = ["train", str(folder / "upon.yaml"), "--on", str(trained), "--out", str(tmp_path / "run")]
    assert main([*command, "--training.steps=2"]) == 0
    assert main([*command[:2], "--out", str(tmp_path / "run"), "--resume", "--training.steps=4"]) == 0
    whole, resumed = (narrows.load(path).state_dict() for path in (folder / "upon", tmp_path / "run"))
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


def test_the_bits_of_the_stack_add_up(run: Path, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run)]) == 0
    figures = json.loads(RunFolder(run).evaluation.read_text())["figures"]
    terms = ("rate_bits_per_dim", "codes_bits_per_dim", "data_given_codes_bits_per_dim")
    assert figures["bits_per_dim"] == pytest.approx(sum(figures[name] for name in terms))
    assert figures["rate_bits_per_dim"] == pytest.approx(3 * 3 / DIMENSIONS)
    assert figures["codes_bits_per_dim"] == pytest.approx(figures["bits_per_code"] * CODES / DIMENSIONS)
    assert figures["bits_per_code_with_latents"] == pytest.approx(figures["bits_per_code"] + 9 / CODES)
    assert figures["bits_per_code_swapped"] != figures["bits_per_code"]
    copy = shutil.copytree(trained, run.with_name("first"))
    assert main(["evaluate", str(copy)]) == 0
    below = json.loads(RunFolder(copy).evaluation.read_text())["figures"]
    assert figures["data_given_codes_bits_per_dim"] == pytest.approx(below["distortion_bits_per_dim"])
    assert below["prior_bits_per_code"] == pytest.approx(below["prior_rate_bits_per_dim"] * DIMENSIONS / CODES)
    report = (run / "report.html").read_text()
    assert "several draws from the latents of 9 bits" in report
    assert "bits/code of the first stage" in report


def test_files_are_encoded_decoded_and_drawn(run: Path, pictures: list[str], tmp_path: Path) -> None:
    codes = tmp_path / "codes.npz"
    assert main(["encode", str(run), *pictures, "-o", str(codes)]) == 0
    with np.load(codes) as content:
        assert content["codes"].shape == (3, 1, 3)
        assert content["codes"].max() < 8
    assert main(["decode", str(run), str(codes), "-o", str(tmp_path / "decoded"), "--decoder-seed", "1"]) == 0
    assert len(list((tmp_path / "decoded").glob("*.png"))) == 3
    for draws, rows in ((1, 3), (4, 6)):
        out = tmp_path / f"draws-{draws}.png"
        assert main(["reconstruct", str(run), *pictures, "--draws", str(draws), "-o", str(out)]) == 0
        assert Image.open(out).height == 10 * rows - 2  # 8 pixels and a gap of 2: originals, the first stage, draws
    one, four = (np.array(Image.open(tmp_path / f"draws-{draws}.png")) for draws in (1, 4))
    assert np.array_equal(one, four[: len(one)])
    assert main(["sample", str(run), "-n", "3", "-o", str(tmp_path / "samples.png")]) == 0
    assert main(["interpolate", str(run), *pictures[:2], "-o", str(tmp_path / "path.png")]) == 0


def test_a_prior_of_the_latents(run: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(run), "--top-k", "3"]) == 1
    assert "no prior was fitted to them" in capsys.readouterr().err
    assert main(["prior", str(run), "--recipe", str(folder / "prior.yaml")]) == 0
    model = narrows.load(run)
    assert model.prior is not None
    assert (model.prior.grid, model.prior.codebooks, model.prior.codebook_size) == ((1,), 3, 8)
    assert main(["sample", str(run), "--top-k", "3", "-n", "2", "-o", str(tmp_path / "samples.png")]) == 0
    assert main(["evaluate", str(run), "--limit", "20"]) == 0
    figures = json.loads(RunFolder(run).evaluation.read_text())["figures"]
    others = figures["codes_bits_per_dim"] + figures["data_given_codes_bits_per_dim"]
    assert figures["prior_bits_per_dim"] == pytest.approx(figures["prior_rate_bits_per_dim"] + others)
    assert figures["prior_bits_per_code"] == pytest.approx(figures["prior_rate_bits_per_dim"] * DIMENSIONS / 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--on", "VAE"], "are continuous, so it has no codes"),
        (["--on", "RUN", "--data.size=16"], "models examples of 1x8x8 .* are 1x16x16"),
        (["--on", "RUN", "--data.validation=0.2"], "first stage was trained on other data"),
        ([], "add --on RUN"),
    ],
)
def test_what_is_refused_leaves_nothing(
    arguments: list[str],
    message: str,
    trained: Path,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, runs = tmp_path / "out", {"RUN": str(trained), "VAE": str(folder / "vae")}
    given = [runs.get(argument, argument) for argument in arguments]
    assert main(["train", str(folder / "upon.yaml"), *given, "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert not out.exists()


def test_a_deterministic_decoder_has_one_draw(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reconstruct", str(trained), "--draws", "2"]) == 1
    assert "deterministic" in capsys.readouterr().err


@pytest.mark.parametrize("variant", [None, "cpu"])
def test_the_prior_of_frames_is_the_decoder_without_latents(variant: str | None) -> None:
    upon = resolve_training(find_recipe("vqvae-global").variant(variant))
    decoder = yaml.safe_load(upon.yaml)["model"]["init_args"]["decoder"]
    alone = find_recipe("pixelcnn-frames").variant(variant)
    assert decoder["init_args"].items() >= alone["prior"]["init_args"].items()
    for name in ("steps", "batch_size", "learning_rate", "warmup", "decay"):
        assert yaml.safe_load(upon.yaml)["training"][name] == alone["training"][name]
    codebook = yaml.safe_load(upon.yaml)["model"]["init_args"]["bottleneck"]["init_args"]
    assert codebook["codebooks"] * math.log2(codebook["codebook_size"]) == 27
