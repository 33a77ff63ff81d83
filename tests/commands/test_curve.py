import csv
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import narrows
from narrows.cli import main
from narrows.models import TwoStage
from narrows.training.run import RunFolder

RECIPE = """
about: A small hierarchy on the digits.
model:
  class_path: Autoencoder
  init_args:
    encoder: {class_path: ImageStem}
    bottleneck: {class_path: Hierarchy, init_args: {width: 8, latents: 2, middle: 4, layers: {1: 1, 8: 1}}}
    decoder: {class_path: ImageHead}
    likelihood: {class_path: GaussianCalibrated}
estimator: {class_path: DistortionTarget, init_args: {gamma: 4.0, estimator: {class_path: Pathwise}}}
data: {source: digits}
training: {steps: 12, batch_size: 32, log_every: 4, validate_every: 6, checkpoint_every: 6}
variants:
  second: SECOND
  coarse: {model: {init_args: {bottleneck: {init_args: {layers: {2: 1, 8: 1}}}}}}
  small: {model: {init_args: {bottleneck: {init_args: {layers: {1: 1, 4: 1}}}}}}
"""


SECOND = "{model: {class_path: TwoStage, init_args: " + (
    "{encoder: {class_path: ImageStem}, decoder: {class_path: ImageHead}, "
    "likelihood: {class_path: GaussianCalibrated}, "
    "bottleneck: {class_path: Hierarchy, init_args: {width: 8, latents: 2, middle: 4, layers: {1: 1, 8: 1}}}}}, "
    "estimator: {init_args: {gamma: 1.0}}}"
)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "toy.yaml"
    path.write_text(RECIPE.replace("SECOND", SECOND))
    return path


@pytest.fixture(scope="module")
def first(recipe: Path) -> Path:
    """The run folder of a first stage; not to be changed."""
    out = recipe.parent / "first"
    assert main(["train", str(recipe), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def both(recipe: Path, first: Path) -> Path:
    """The run folder of a second stage; not to be changed."""
    out = recipe.parent / "both"
    assert main(["train", str(recipe), "--variant", "second", "--on", str(first), "--out", str(out)]) == 0
    return out


def test_a_curve_is_measured_sampled_drawn_and_extended(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["narrows.commands.curve"], "FEATURE_STEPS", 2)
    out = tmp_path / "curve"
    command = ["curve", str(recipe), "--limit", "80", "--out", str(out)]
    assert main([*command, "--gammas", "2,8"]) == 0
    first = RunFolder(out / "gamma-8").metrics.read_text()
    assert main([*command, "--gammas", "8,4,2"]) == 1
    assert "--resume" in capsys.readouterr().err
    assert main([*command, "--gammas", "8,4,2", "--resume"]) == 0
    assert RunFolder(out / "gamma-8").metrics.read_text() == first
    rows = list(csv.DictReader((out / "curve.csv").open()))
    assert [row["gamma"] for row in rows] == ["8", "4", "2"]
    figures = json.loads(RunFolder(out / "gamma-4").evaluation.read_text())["figures"]
    for row in rows:
        elbo, rate, likelihood = (float(row[name]) for name in ("elbo", "rate", "log_likelihood"))
        assert elbo == pytest.approx(likelihood - rate, rel=1e-4)
        assert float(row["frechet_samples"]) > 0
    assert float(rows[1]["squared_error"]) == pytest.approx(figures["squared_error"], rel=1e-4)
    for name in ("reconstructions.png", "samples.png"):
        Image.open(out / name).verify()
    page = (out / "report.html").read_text()
    assert "Fréchet distance of samples" in page
    assert "Rate, nats" in (out / "curve.svg").read_text()
    assert main([*command, "--gammas", "8", "--resume", "--training.steps=14"]) == 1
    assert "not what `narrows curve` would train there" in capsys.readouterr().err


def test_a_curve_needs_an_estimator_that_holds_a_distortion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["curve", "vae-mnist", "--data", "digits", "--out", str(tmp_path / "curve")]) == 1
    assert "Pathwise, which holds no distortion" in capsys.readouterr().err
    for gammas in ("0,1", "8;4"):
        with pytest.raises(SystemExit):
            main(["curve", "hvae-svhn", "--gammas", gammas])


def test_both_stages_are_one_model_for_every_command(
    first: Path, both: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(both, tmp_path / "moved")  # what it needs of the first, it holds
    for command in (
        ["evaluate", str(run), "--samples", "2"],
        ["sample", str(run), "-n", "4", "--full"],
        ["reconstruct", str(run)],
    ):
        assert main(command) == 0
    assert "importance_weighted_bits_per_dim" in capsys.readouterr().out
    model = narrows.load(run)
    assert isinstance(model, TwoStage)
    x = torch.randint(17, (3, 1, 8, 8)) / 16
    torch.testing.assert_close(model.first.reconstruct(x), narrows.load(first).reconstruct(x))
    page = (run / "report.html").read_text()
    for part in ("What the second stage adds", "Rate by layer", "first stage"):
        assert part in page


def test_a_second_stage_resumes_from_its_own_copy_of_the_first(recipe: Path, first: Path, tmp_path: Path) -> None:
    lost = shutil.copytree(first, tmp_path / "lost")
    out, whole = tmp_path / "out", tmp_path / "whole"
    command = ["train", str(recipe), "--variant", "second", "--on", str(lost), "--training.decay=none", "--out"]
    assert main([*command, str(whole)]) == 0
    assert main([*command, str(out), "--training.steps=6"]) == 0
    shutil.rmtree(lost)
    assert main(["train", str(recipe), "--resume", "--out", str(out), "--training.steps=12"]) == 0
    ours, theirs = (narrows.load(run).state_dict() for run in (out, whole))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--variant", "second"], "say --on RUN"),
        (["--on", "FIRST"], "has one stage"),
        (["--variant", "second", "--on", "FIRST", "--estimator.gamma=500"], "set a gamma below that"),
        (["--variant", "second", "--on", "FIRST", "--data.size=16"], "both stages see the same images"),
        (["--variant", "second", "--on", "NOWHERE"], "neither a run folder nor a model on the hub"),
        (["--variant", "small"], "the finest resolution of layers is 4, but the features are 8x8"),
        (["--model.likelihood=DiscretizedLogistic"], "set --model.likelihood=GaussianCalibrated"),
    ],
)
def test_stages_that_do_not_fit_are_refused_before_anything_is_written(
    recipe: Path, first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    out = tmp_path / "out"
    given = [str(first) if argument == "FIRST" else argument for argument in arguments]
    assert main(["train", str(recipe), "--out", str(out), *given]) == 1
    assert message in capsys.readouterr().err
    assert not out.exists()
