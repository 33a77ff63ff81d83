"""A run killed at the worst moments and resumed leaves, bit for bit, what an uninterrupted one does."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from narrows.cli import main
from narrows.commands.resume import CHANGEABLE
from narrows.errors import NarrowsError
from narrows.pretrained import load
from narrows.training.run import RunFolder

KILL_AT_STEP = """
import os, signal, sys, torch
from narrows.cli import main
from narrows.commands.resume import CHANGEABLE
from narrows.errors import NarrowsError
from narrows.pretrained import load
from narrows.training.run import RunFolder
torch.set_num_threads(1)
log = RunFolder.log
def log_then_die(self, row):
    log(self, row)
    if row["step"] == 7:
        os.kill(os.getpid(), signal.SIGKILL)
RunFolder.log = log_then_die
main(sys.argv[1:])
"""
KILL_IN_SECOND_CHECKPOINT = """
import os, signal, sys, torch
from narrows.cli import main
from narrows.training import checkpoint
torch.set_num_threads(1)
digest = checkpoint.sha256_of
def digest_then_die(file):
    if "00000008" in str(file):
        os.kill(os.getpid(), signal.SIGKILL)
    return digest(file)
checkpoint.sha256_of = digest_then_die
main(sys.argv[1:])
"""


def figures(run: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    measured = ("steps_per_second", "waiting", "peak_memory_mib")
    return [{name: value for name, value in row.items() if name not in measured} for row in rows]


@pytest.fixture(scope="module", params=[[], ["--variant", "vae"]], ids=["vqvae", "vae"])
def uninterrupted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, trained: Path
) -> tuple[list[str], Path]:
    folder = tmp_path_factory.mktemp("whole")
    shutil.copy(trained.parent / "tiny.yaml", folder)
    arguments = ["train", str(folder / "tiny.yaml"), *request.param]
    assert main([*arguments, "--out", str(folder / "run")]) == 0
    return arguments, folder / "run"


@pytest.mark.parametrize("script", [KILL_AT_STEP, KILL_IN_SECOND_CHECKPOINT], ids=["training", "checkpointing"])
def test_killed_and_resumed_equals_uninterrupted(
    uninterrupted: tuple[list[str], Path], tmp_path: Path, script: str
) -> None:
    arguments, whole = uninterrupted
    command = [*arguments, "--out", str(tmp_path / "run")]
    killed = subprocess.run([sys.executable, "-c", script, *command], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert [path.name for path in (tmp_path / "run" / "checkpoints").glob("step-*")] == ["step-00000004"]
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "spl')  # the torn line that a kill leaves
    assert main([*command, "--resume"]) == 0
    assert figures(tmp_path / "run") == figures(whole)
    expected = load_file(whole / "model" / "model.safetensors")
    for name, tensor in load_file(tmp_path / "run" / "model" / "model.safetensors").items():
        assert torch.equal(tensor, expected[name]), name


def test_a_prior_resumes_bit_for_bit(trained: Path, tiny_prior: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    shutil.rmtree(run / "prior" / "checkpoints" / "step-00000006")
    assert main(["prior", str(run), "--recipe", str(tiny_prior), "--resume"]) == 0
    assert figures(run / "prior") == figures(trained / "prior")


def test_a_finished_run_goes_on_when_it_is_given_more_steps(trained: Path, tiny: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    assert main(["train", str(tiny), "--out", str(run), "--resume", "--training.steps=14"]) == 0
    assert [row["step"] for row in figures(run) if row["split"] == "train"] == list(range(1, 15))


def corrupt(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.bin", "random_states_0.pkl", "manifest.json"])
def test_a_damaged_checkpoint_is_named_with_the_way_out(
    trained: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    newest = run / "checkpoints" / "step-00000012"
    corrupt(newest / name)
    before = (run / "metrics.jsonl").read_bytes()
    assert main(["train", str(tiny), "--out", str(run), "--resume", "--training.steps=14"]) == 1
    message = capsys.readouterr().err
    assert f"{newest}/{name}" in message
    assert f"remove the folder {newest} to resume from the checkpoint before it" in message
    assert (run / "metrics.jsonl").read_bytes() == before
    shutil.rmtree(newest)
    assert main(["train", str(tiny), "--out", str(run), "--resume"]) == 0
    assert figures(run) == figures(trained)


def test_a_loss_that_is_not_finite_stops_the_run_before_it_is_kept(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(["train", str(tiny), "--out", str(run), "--training.learning_rate=1e30"]) == 1
    assert "NaN or infinite by step" in capsys.readouterr().err
    assert RunFolder(run).checkpoints.exists() is False
    assert not (run / "model").exists()


def test_a_full_disk_is_told_and_leaves_no_half_checkpoint(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: Path) -> str:
        raise OSError(28, "No space left on device", str(file))

    monkeypatch.setattr("narrows.training.checkpoint.sha256_of", full)
    run = tmp_path / "run"
    assert main(["train", str(tiny), "--out", str(run)]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert list((run / "checkpoints").iterdir()) == []


def test_a_checkpoint_of_more_processes_is_refused(
    trained: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    manifest = run / "checkpoints" / "step-00000012" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"processes": 1', '"processes": 2'))
    assert main(["train", str(tiny), "--out", str(run), "--resume"]) == 1
    assert "written by 2 processes" in capsys.readouterr().err


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("--model.bottleneck.codebook_size=16", "codebook_size is 16, but it was 8 when the run in .* started"),
        ("--model.encoder.width=9", "encoder.init_args.width is 9"),
        ("--estimator=ImportanceWeighted", "estimator"),
        ("--training.batch_size=16", "training.batch_size is 16"),
        ("--training.seed=1", "training.seed is 1"),
        ("--data.size=16", "data.size is 16, but it was not set when"),
        ("--data.split_seed=3", "data.split_seed is 3"),
        ("--model.bottleneck.nonesuch=16", "nonesuch"),
    ],
)
def test_a_refused_resumption_leaves_the_run_as_it_was(
    trained: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str, message: str
) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    before = content(run)
    assert main(["train", str(tiny), "--out", str(run), "--resume", "--training.steps=14", change]) == 1
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert "Traceback" not in error
    assert content(run) == before
    assert main(["train", str(tiny), "--out", str(run), "--resume", "--training.steps=13"]) == 0


def test_the_settings_that_may_change_are_told_and_may(
    trained: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    command = ["train", str(tiny), "--out", str(run), "--resume"]
    assert main([*command, "--training.betas=[0.5,0.9]"]) == 1
    error = capsys.readouterr().err
    changes = {
        "training.steps": 14,
        "training.learning_rate": 1e-3,
        "training.warmup": 2,
        "training.decay": "cosine",
        "training.clip_norm": 1.0,
        "training.compile": False,  # what it changes to is in test_compile
        "training.log_every": 2,
        "training.validate_every": 2,
        "training.validation_examples": 5,
        "training.gradient_draws": 2,
        "training.checkpoint_every": 2,
        "training.keep": 1,
        "data.source": "digits",
        "data.strict": True,
        "data.memory_limit_gb": 1.0,
    }
    assert tuple(changes) == CHANGEABLE
    assert all(name in error for name in changes)
    assert main([*command, *(f"--{name}={value}" for name, value in changes.items())]) == 0
    assert figures(run)[-1]["step"] == 14


def test_a_checkpoint_of_another_model_is_refused_and_nothing_is_written(
    trained: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    recipe = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(recipe.replace("codebook_size: 8", "codebook_size: 16"))
    before = content(run)
    assert main(["train", str(tiny), "--out", str(run), "--resume", "--training.steps=14"]) == 1
    assert "step-00000012 does not fit this model" in capsys.readouterr().err
    assert content(run) == before


def test_a_refused_resumption_of_a_prior_leaves_the_run_as_it_was(
    trained: Path, tiny_prior: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    before = content(run)
    command = ["prior", str(run), "--recipe", str(tiny_prior), "--resume"]
    assert main([*command, "--prior.width=16"]) == 1
    assert "prior.init_args.width is 16" in capsys.readouterr().err
    assert content(run) == before


def test_a_refused_prior_can_be_fitted_afterwards(
    trained: Path, tiny_prior: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    shutil.rmtree(run / "prior")
    before = content(run)
    command = ["prior", str(run), "--recipe", str(tiny_prior)]
    assert main([*command, "--training.batch_size=5000"]) == 1
    assert "training.batch_size is 5000" in capsys.readouterr().err
    assert content(run) == before
    assert main(command) == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest.pop("step"),
        lambda manifest: manifest.update(step=8),
        lambda manifest: manifest["sha256"].pop("model.safetensors"),
        lambda manifest: manifest.update(sha256=[]),
        lambda manifest: manifest.update(processes="many"),
    ],
)
def test_a_manifest_that_is_not_of_its_checkpoint_is_named(
    trained: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Any], None]
) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    file = run / "checkpoints" / "step-00000012" / "manifest.json"
    manifest = json.loads(file.read_text())
    change(manifest)
    file.write_text(json.dumps(manifest))
    before = content(run)
    assert main(["train", str(tiny), "--out", str(run), "--resume", "--training.steps=14"]) == 1
    assert f"{file} cannot be used" in capsys.readouterr().err
    assert content(run) == before


def test_a_damaged_prior_is_fitted_on(trained: Path, tiny_prior: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    (run / "prior" / "model" / "config.json").unlink()
    with pytest.raises(NarrowsError, match=r"config\.json is missing or damaged"):
        load(run)
    assert main(["prior", str(run), "--recipe", str(tiny_prior), "--resume", "--training.steps=7"]) == 0
    assert load(run).prior is not None


def test_null_for_a_number_is_refused_in_words(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = yaml.safe_load(tiny.read_text())
    settings["training"]["epsilon"] = None
    tiny.write_text(yaml.safe_dump(settings))
    assert main(["train", str(tiny), "--out", str(tmp_path / "run")]) == 1
    assert f"{tiny}: a setting has an unsuitable value" in capsys.readouterr().err
