"""Every estimator trains a model of categorical codes through the command, and resumes."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from narrows.cli import main

RECIPE = """
model:
  class_path: Autoencoder
  init_args:
    encoder: {class_path: ConvEncoder, init_args: {width: 8, downsamplings: 1, blocks: 1}}
    bottleneck: {class_path: Categorical, init_args: {dim: 4, codebook_size: 8}}
    decoder: {class_path: ConvDecoder, init_args: {width: 8, upsamplings: 1, blocks: 1}}
    likelihood: {class_path: DiscretizedLogistic}
estimator: {class_path: DAPS}
data: {source: digits}
training: {steps: 30, batch_size: 32, learning_rate: 3.0e-3, log_every: 1, validate_every: 30, checkpoint_every: 20}
"""
ESTIMATORS = {
    "GumbelSoftmax": ["--estimator=GumbelSoftmax", "--estimator.annealing_steps=30"],
    "StraightThroughGumbel": ["--estimator=StraightThroughGumbel", "--estimator.annealing_steps=30"],
    "GumbelRao": ["--estimator=GumbelRao"],
    "REINFORCE": ["--estimator=REINFORCE"],
    "REINFORCE, no baseline": ["--estimator=REINFORCE", "--estimator.baseline=NoBaseline"],
    "REINFORCE, moving average": ["--estimator=REINFORCE", "--estimator.baseline=MovingAverage"],
    "REINFORCE, learned": [
        "--estimator=REINFORCE",
        "--estimator.baseline=LearnedBaseline",
        "--estimator.baseline.inputs=64",
    ],
    "VIMCO": ["--estimator=VIMCO", "--estimator.samples=8"],
    "DAPS": [],
}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "categorical.yaml"
    path.write_text(RECIPE)
    return path


def rows(run: Path, split: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in found if row["split"] == split]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_model_of_categorical_codes_trains(name: str, recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert main(["train", str(recipe), "--out", str(run), *ESTIMATORS[name]]) == 0
    losses = [row["loss"] for row in rows(run, "train")]
    assert sum(losses[-5:]) / 5 < losses[0] - 1
    (measured,) = rows(run, "validation")
    assert measured["bits_per_dim"] < 8


def test_a_run_resumes_where_its_temperature_was(recipe: Path, tmp_path: Path) -> None:
    arguments = ["train", str(recipe), *ESTIMATORS["StraightThroughGumbel"]]
    assert main([*arguments, "--out", str(tmp_path / "whole")]) == 0
    half = tmp_path / "half"
    shutil.copytree(tmp_path / "whole", half)
    shutil.rmtree(half / "checkpoints" / "step-00000030")
    assert main([*arguments, "--out", str(half), "--resume"]) == 0
    temperatures = [row["temperature"] for row in rows(half, "train")]
    assert temperatures == [row["temperature"] for row in rows(tmp_path / "whole", "train")]
    assert temperatures[0] == 1 > temperatures[-1] > 0.5
    expected = load_file(tmp_path / "whole" / "model" / "model.safetensors")
    for key, tensor in load_file(half / "model" / "model.safetensors").items():
        assert torch.equal(tensor, expected[key]), key


def test_an_estimator_and_a_posterior_that_do_not_fit_are_named(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(recipe), "--out", str(tmp_path / "run"), "--estimator=Pathwise"]) == 1
    assert "Pathwise needs a gradient through the latents, but those of a CategoricalPosterior have none" in (
        " ".join(capsys.readouterr().err.split())
    )
