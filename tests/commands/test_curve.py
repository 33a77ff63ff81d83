import csv
import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

import narrows
from narrows.cli import main
from narrows.modalities.images import distances
from narrows.models import TwoStage
from narrows.training.run import RunFolder

RECIPE = """
about: A small hierarchy on the digits.
model:
  class_path: Autoencoder
  init_args:
    encoder: {class_path: Stem}
    bottleneck: {class_path: Hierarchy, init_args: {width: 8, latents: 2, middle: 4, layers: {1: 1, 8: 1}}}
    decoder: {class_path: Head}
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
    "{encoder: {class_path: Stem}, decoder: {class_path: Head}, "
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
    monkeypatch.setattr(distances, "FEATURE_STEPS", 2)
    out = tmp_path / "curve"
    command = ["curve", str(recipe), "--limit", "80", "--jobs", "2", "--out", str(out)]
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
        for unit in ("nats", "bits_per_dim"):
            elbo, rate, likelihood = (float(row[f"{name}_{unit}"]) for name in ("elbo", "rate", "log_likelihood"))
            assert elbo == pytest.approx(likelihood - rate, rel=1e-4)
        assert float(row["rate_nats"]) == pytest.approx(64 * math.log(2) * float(row["rate_bits_per_dim"]), rel=1e-4)
        assert float(row["frechet_samples"]) > 0
    assert float(rows[1]["squared_error"]) == pytest.approx(figures["squared_error"], rel=1e-4)
    for name in ("reconstructions.png", "samples.png"):
        Image.open(out / name).verify()
    page = (out / "report.html").read_text()
    assert "Fréchet distance of samples" in page
    drawing = (out / "curve.svg").read_text()
    for title in ("Rate, bits/dim", "log2 p(x|z), bits/dim", "ELBO, bits/dim"):
        assert title in page
        assert title in drawing
    assert float(rows[1]["log_likelihood_nats"]) == pytest.approx(figures["log_likelihood"], rel=1e-4)
    bits = float(rows[1]["rate_bits_per_dim"]) * 64
    assert f"4: {bits:.0f} bits" in page
    assert "test, 80 of 93" in page
    assert main([*command, "--gammas", "8", "--resume", "--training.steps=14"]) == 1
    assert "not what `narrows curve` would train there" in capsys.readouterr().err


def test_a_curve_needs_an_estimator_that_holds_a_distortion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["curve", "vae-mnist", "--data", "digits", "--out", str(tmp_path / "curve")]) == 1
    assert "Pathwise, which has no target distortion" in capsys.readouterr().err
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
    for part in ("Second stage", "Rate by layer", "first stage"):
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


def test_a_run_keeps_to_its_first_stage(
    recipe: Path, first: Path, both: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(first, tmp_path / "other")
    run = shutil.copytree(both, tmp_path / "run")
    assert main(["train", str(recipe), "--resume", "--out", str(run), "--on", str(other)]) == 1
    assert "and cannot change" in capsys.readouterr().err
    shutil.copytree(both / "first", tmp_path / "new" / "first")
    command = ["train", str(recipe), "--variant", "second", "--on", str(first), "--out", str(tmp_path / "new")]
    assert main(command) == 1
    assert "holds the first stage of another run" in capsys.readouterr().err


def test_a_point_that_diverged_or_missed_is_told_and_small_sets_have_no_distance(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "curve"
    command = ["curve", str(recipe), "--out", str(out), "--resume"]
    assert main([*command, "--gammas", "8", "--limit", "20"]) == 0
    (out / "gamma-2").mkdir()
    (out / "gamma-2" / "diverged.txt").write_text("as a diverged run leaves it")
    assert main([*command, "--gammas", "8,2", "--limit", "20"]) == 0
    page = (out / "report.html").read_text()
    assert "Diverged in training and not shown: 2." in page
    assert "More than 2% off target on the validation split: 8." in page
    assert "There is no Fréchet distance" in page
    assert main(["curve", str(recipe), "--out", str(tmp_path / "other"), "--data.test=0"]) == 1
    assert "data.test holds out no examples" in capsys.readouterr().err


@pytest.mark.parametrize("limit", ["3"])
def test_a_curve_of_few_test_images(recipe: Path, tmp_path: Path, limit: str) -> None:
    out = tmp_path / "curve"
    small = ["--data.test=0.001", "--data.validation=0.0005", "--training.steps=2"]
    assert main(["curve", str(recipe), "--gammas", "8", "--limit", limit, *small, "--out", str(out)]) == 0
    assert f"test, {'1 of 2' if limit == '1' else 'all 2'}" in (out / "report.html").read_text()


def test_codes_without_a_prior_are_not_sampled_in_a_curve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Path
) -> None:
    monkeypatch.setattr(distances, "FEATURE_STEPS", 2)
    held = ["--model.likelihood=GaussianCalibrated", "--estimator=DistortionTarget", "--estimator.gamma=4"]
    out = tmp_path / "curve"
    arguments = [*held, "--estimator.estimator=Pathwise", "--gammas", "9,8", "--jobs", "2", "--out", str(out)]
    assert main(["curve", str(tiny), *arguments]) == 0
    assert not (out / "samples.png").exists()
    (row, _) = csv.DictReader((out / "curve.csv").open())
    assert "frechet_samples" not in row
    assert float(row["frechet_reconstructions"]) > 0


def test_options_of_a_learned_prior_are_refused_where_there_is_none(
    first: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for option in (["--class", "3"], ["--temperature", "0.5"], ["--top-k", "3"], ["--top-p", "0.5"]):
        assert main(["sample", str(first), *option]) == 1
        assert f"{option[0]} applies to a learned prior" in capsys.readouterr().err


def test_a_pair_has_the_classes_and_the_prior_of_its_first(recipe: Path, trained: Path, tmp_path: Path) -> None:
    """The first has ten classes and a prior of its codes; the second is trained on images without labels."""
    digits = torch.randint(17, (80, 8, 8), generator=torch.Generator().manual_seed(0)) * 15
    for number, digit in enumerate(digits.to(torch.uint8).numpy()):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(digit).save(tmp_path / "images" / f"{number}.png")
    out = tmp_path / "pair"
    arguments = ["--variant", "second", "--on", str(trained), "--data", str(tmp_path / "images"), "--out", str(out)]
    assert main(["train", str(recipe), *arguments, "--data.test=0.3", "--data.validation=0.3"]) == 0
    assert main(["sample", str(out), "-n", "4", "--class", "3", "--temperature", "0.5"]) == 0
    assert main(["evaluate", str(out)]) == 0
    model = narrows.load(out)
    assert model.classes == narrows.load(trained).classes != []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--variant", "second"], "add --on RUN"),
        (["--on", "FIRST"], "has one stage"),
        (["--variant", "second", "--on", "FIRST", "--estimator.gamma=500"], "set gamma below that"),
        (["--variant", "second", "--on", "FIRST", "--data.size=16"], "both stages see the same images"),
        (["--variant", "second", "--on", "NOWHERE"], "neither a run folder nor a model on the hub"),
        (["--variant", "second", "--on", "CODES"], "fit one first with `narrows prior"),
        (["--variant", "small"], "the finest resolution of layers is 4, but the features are 8x8"),
        (["--model.likelihood=DiscretizedLogistic"], "set --model.likelihood=GaussianCalibrated"),
    ],
)
def test_stages_that_do_not_fit_are_refused_before_anything_is_written(
    recipe: Path,
    first: Path,
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    out = tmp_path / "out"
    codes = shutil.copytree(trained, tmp_path / "codes")
    shutil.rmtree(codes / "prior")
    given = [{"FIRST": str(first), "CODES": str(codes)}.get(argument, argument) for argument in arguments]
    assert main(["train", str(recipe), "--out", str(out), *given]) == 1
    assert message in capsys.readouterr().err
    assert not out.exists()
