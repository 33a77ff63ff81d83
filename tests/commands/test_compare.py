import csv
import json
import math
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from narrows.cli import main
from narrows.commands.compare import Budget
from narrows.errors import NarrowsError
from narrows.training.run import RunFolder

RECIPE = """
about: Two methods on the digits.
model:
  class_path: Autoencoder
  init_args:
    encoder: {class_path: MLPEncoder, init_args: {size: [8, 8], width: 16, layers: 1}}
    bottleneck: {class_path: Categorical, init_args: {dim: 4, codebook_size: 8, codebooks: 2}}
    decoder: {class_path: MLPDecoder, init_args: {size: [8, 8], width: 16, layers: 1}}
    likelihood: {class_path: Bernoulli}
estimator: {class_path: DAPS}
data: {source: digits, binary: true}
training: {steps: 12, batch_size: 32, log_every: 4}
variants:
  daps: {estimator: {init_args: {samples: 4}}}
  gumbel: {estimator: {class_path: GumbelSoftmax}}
  vae:
    model: {init_args: {bottleneck: {class_path: Gaussian, init_args: {channels: 2}}}}
    estimator: {class_path: Pathwise}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "toy.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def compared(recipe: Path) -> Path:
    """The folder of a finished comparison; not to be changed."""
    out = recipe.parent / "compared"
    assert run(recipe, out, "daps", "gumbel", "--learning-rates", "1e-3", "1e-2", "--seeds", "2", "--jobs", "2") == 0
    return out


def run(recipe: Path, out: Path, *arguments: str) -> int:
    return main(
        [
            "compare",
            *arguments,
            "--recipe",
            str(recipe),
            "--bits",
            "9",
            "--budget",
            "20",
            "--limit",
            "50",
            "-o",
            str(out),
        ]
    )


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_trial_is_a_run_with_the_bits_steps_rate_and_seed_it_is_named_by(compared: Path) -> None:
    trials = sorted(path.parent for path in compared.glob("trials/*/*/recipe.yaml"))
    assert len(trials) == 2 * (2 + 1)
    for trial in trials:
        text = (trial / "recipe.yaml").read_text()
        rate, seed = trial.name.removeprefix("lr-").split("-seed-")
        assert f"learning_rate: {rate}" in text
        assert f"seed: {seed}\n" in text
        assert "codebooks: 3\n" in text  # 3 latents of 8 categories are 9 bits
        assert "steps: 20\n" in text
        if trial.parent.name == "gumbel":
            assert "annealing_steps: 20\n" in text


def test_the_summary_is_of_the_seeds_at_the_rate_that_the_validation_split_chose(compared: Path) -> None:
    trials, summary = table(compared / "trials.csv"), table(compared / "summary.csv")
    assert [row["method"] for row in summary] == ["daps", "gumbel"]
    for row in summary:
        sweep = {
            float(trial["validation_bits_per_dim"]): trial["learning_rate"]
            for trial in trials
            if trial["method"] == row["method"] and trial["seed"] == "0"
        }
        assert row["learning_rate"] == sweep[min(sweep)]
        assert row["seeds"] == "2"
        tested = [
            float(trial["test_bits_per_dim"])
            for trial in trials
            if trial["method"] == row["method"] and trial["learning_rate"] == row["learning_rate"]
        ]
        assert len(tested) == 2
        assert float(row["bits_per_dim"]) == pytest.approx(sum(tested) / 2, rel=1e-4)
        assert float(row["bits_per_dim_deviation"]) == pytest.approx(abs(tested[0] - tested[1]) / 2**0.5, rel=1e-3)
        assert float(row["importance_weighted_bits_per_dim"]) <= float(row["bits_per_dim"]) + 1e-3
        assert 0 < float(row["gradient_noise"]) <= 1
    others = [row for row in trials if not row["test_bits_per_dim"]]
    assert len(others) == 2  # the rates that were not chosen never saw the test split


def test_the_report_shows_every_method_and_its_drawings_are_files(compared: Path) -> None:
    for name in ("bits_per_dim", "distortion_bits_per_dim", "bits_per_dim_curves", "distortion_bits_per_dim_curves"):
        assert ElementTree.parse(compared / f"{name}.svg").getroot().tag.endswith("svg")
    with Image.open(compared / "reconstructions.png") as picture:
        assert picture.height > 3 * 8  # originals and two methods
    page = (compared / "report.html").read_text()
    for text in ("daps, gumbel", "original", "Learning rates", "chosen", "steps/s"):
        assert text in page


def test_bits_are_told_in_tables_drawings_and_csv(compared: Path) -> None:
    page, (row, _) = (compared / "report.html").read_text(), table(compared / "summary.csv")
    for column in ("rate, bits/dim", "distortion, bits/dim", "importance-weighted, bits/dim", "log p(x|z), nats"):
        assert f">{column}</th>" in page
    assert "bits/dim" in (compared / "distortion_bits_per_dim.svg").read_text()
    nats = 64 * math.log(2) * float(row["distortion_bits_per_dim"])
    assert float(row["log_likelihood"]) == pytest.approx(-nats, rel=1e-4)


def test_the_best_rate_at_the_end_of_its_sweep_is_told(
    compared: Path, recipe: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of two rates, the best is always an end."""
    arguments = ("daps", "gumbel", "--learning-rates", "1e-3", "1e-2", "--seeds", "2", "--resume")
    assert run(recipe, compared, *arguments) == 0
    page = (compared / "report.html").read_text()
    for row in table(compared / "summary.csv"):
        end = {"0.001": "lowest", "0.01": "highest"}[row["learning_rate"]]
        assert row["sweep_end"] == end
        said = f"{row['method']}: its best learning rate, {row['learning_rate']}, is the {end} of the sweep"
        assert said in caplog.text
        assert f"{row['method']} ({row['learning_rate']}, the {end})" in page
        assert f"chosen; the {end} of the sweep" in page


def test_methods_of_other_data_are_refused(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(f"{RECIPE}  odd:\n    data: {{binary: false, test: 0.3}}\n")
    out = tmp_path / "out"
    assert run(other, out, "daps", "gumbel", "odd") == 1
    said = " ".join(capsys.readouterr().err.split())
    assert (
        "data.test is 0.05 for daps and 0.3 for odd" in said or "data.binary is True for daps and False for odd" in said
    )
    assert not out.exists()
    # What is given for all is the same for all: then the next check speaks.
    assert run(other, out, "daps", "odd", "--data.binary=true", "--data.test=0") == 1
    assert "data.test holds out no examples" in " ".join(capsys.readouterr().err.split())


def test_a_test_split_of_nothing_is_refused_before_any_training(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(recipe, out, "daps", "--data.test=0") == 1
    assert "data.test holds out no examples" in " ".join(capsys.readouterr().err.split())
    assert not out.exists()


def test_a_validation_split_of_nothing_is_told(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(recipe, tmp_path / "out", "daps", "--data.validation=0", "--learning-rates", "1e-3") == 1
    assert "data.validation holds out nothing" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("limit", ["1"])
def test_a_comparison_on_few_test_images(recipe: Path, tmp_path: Path, limit: str) -> None:
    out = tmp_path / "out"
    small = ["--data.test=0.001", "--data.validation=0.0005", "--learning-rates", "1e-3", "--seeds", "1"]
    assert run(recipe, out, "vae", *small, "--limit", limit) == 0
    page = (out / "report.html").read_text()
    assert "Only one rate was tried, so there was no choice: vae." in page
    assert table(out / "summary.csv")[0]["sweep_end"] == "only"


def test_an_interrupted_comparison_goes_on_and_leaves_what_is_done_alone(
    compared: Path, recipe: Path, tmp_path: Path
) -> None:
    out = tmp_path / "again"
    shutil.copytree(compared, out)
    finished = {path: path.stat().st_mtime_ns for path in out.glob("trials/*/*/model/model.safetensors")}
    broken = RunFolder(out / "trials" / "daps" / "lr-0.001-seed-0")
    before = (broken.model / "model.safetensors").read_bytes()
    broken.report.unlink()
    broken.evaluation.unlink(missing_ok=True)
    for newest in broken.checkpoints.glob("step-*"):
        shutil.rmtree(newest)
    rows = broken.metrics.read_text().splitlines(keepends=True)
    broken.metrics.write_text("".join(rows[:3]))
    arguments = ("daps", "gumbel", "--learning-rates", "1e-3", "1e-2", "--seeds", "2")
    assert run(recipe, out, *arguments) == 1
    assert run(recipe, out, *arguments, "--resume") == 0
    changed = [path for path, when in finished.items() if path.stat().st_mtime_ns != when]
    assert changed == [broken.model / "model.safetensors"]
    assert changed[0].read_bytes() == before
    assert table(out / "summary.csv")[0]["bits_per_dim"] == table(compared / "summary.csv")[0]["bits_per_dim"]


def test_a_trial_that_diverges_is_left_out_and_said(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(recipe, out, "vae", "--learning-rates", "1e-3", "1e25", "--seeds", "1") == 0
    (row,) = table(out / "summary.csv")
    assert float(row["learning_rate"]) == 1e-3
    assert "diverged" in (out / "report.html").read_text()
    hopeless = ("vae", "--learning-rates", "1e25", "--seeds", "1")
    assert run(recipe, tmp_path / "hopeless", *hopeless) == 1
    assert "diverged: give lower --learning-rates" in " ".join(capsys.readouterr().err.split())
    evaluated = json.loads((out / "trials" / "vae" / "lr-0.001-seed-0" / "evaluation.json").read_text())
    assert (evaluated["split"], evaluated["examples"], evaluated["samples"]) == ("test", 50, 16)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["daps", "vae", "daps"], "name each method once"),
        (["vae", "--estimator=GumbelSoftmax"], "a GaussianPosterior samples none"),
        (["daps", "--bits", "10"], "give a multiple of 3"),
        (["vqvae"], "no variant 'vqvae'; it has: daps, gumbel, vae"),
        (["daps", "--budget", "soon"], "--budget soon: give a number of steps"),
        (["daps", "--estimator.samples", "1"], "samples is 1: it must be at least 2"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_anything_is_written(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    given = ["compare", "--recipe", str(recipe), "-o", str(tmp_path / "out"), "--budget", "5", *arguments]
    assert main(given) == 1
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_other_settings_than_a_trial_was_begun_with_are_refused(
    compared: Path, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("daps", "gumbel", "--learning-rates", "1e-3", "1e-2", "--resume", "--training.batch_size=16")
    assert run(recipe, compared, *arguments) == 1
    assert "is not what `narrows compare` would train there now" in " ".join(capsys.readouterr().err.split())


def test_a_budget_is_steps_or_minutes() -> None:
    assert Budget.parse("3000") == Budget(steps=3000)
    assert Budget.parse("2.5m") == Budget(minutes=2.5)
    for wrong in ("0", "-3", "0m", "m", "ten"):
        with pytest.raises(NarrowsError, match="give a number of steps"):
            Budget.parse(wrong)


def test_minutes_become_steps_by_the_pace_of_each_method(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    minutes = ["--budget", "0.002m", "--seeds", "1", "--learning-rates", "1e-3", "--limit", "20"]
    assert main(["compare", "vae", "--recipe", str(recipe), "-o", str(out), *minutes]) == 0
    rows = [json.loads(line) for line in (out / "pace" / "vae" / "metrics.jsonl").read_text().splitlines()]
    paces = sorted(row["steps_per_second"] for row in rows[1:] if row["split"] == "train")
    trial = (out / "trials" / "vae" / "lr-0.001-seed-0" / "recipe.yaml").read_text()
    assert f"  steps: {round(0.12 * paces[len(paces) // 2])}\n" in trial
