import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch._inductor import config

from narrows.cli import main

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")


def losses(run: Path) -> list[float]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if row["split"] == "train"]


@needs_compiler
def test_a_compiled_run_has_the_losses_and_names_of_a_plain_one_and_resumes_as_one(tiny: Path, tmp_path: Path) -> None:
    plain, compiled = tmp_path / "plain", tmp_path / "compiled"
    arguments = ["train", str(tiny), "--training.steps=8"]
    assert main([*arguments, "--out", str(plain)]) == 0
    half = [*arguments, "--training.steps=4", "--training.compile=true", "--out", str(compiled)]
    subprocess.run([sys.executable, "-m", "narrows", *half], check=True, capture_output=True)
    assert main([*arguments, "--training.compile=false", "--out", str(compiled), "--resume"]) == 0
    assert losses(compiled) == pytest.approx(losses(plain), rel=1e-3)
    for file in ("model/model.safetensors", "checkpoints/step-00000004/model.safetensors"):
        assert load_file(compiled / file).keys() == load_file(plain / file).keys()


def test_a_missing_compiler_is_told_before_anything_is_written(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with config.patch({"cpp.cxx": ("/none/g++",)}):
        assert main(["train", str(tiny), "--training.compile=true", "--out", str(tmp_path / "run")]) == 1
    assert "training.compile=true needs a C++ compiler" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
