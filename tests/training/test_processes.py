"""Two processes that share each batch train what one process does on the whole of it."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from narrows.cli import main


def test_two_processes_equal_one(tiny: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert main(["train", str(tiny), "--out", str(one)]) == 0
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "narrows"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*launch, "train", str(tiny), "--out", str(two)], check=True, env=environment, capture_output=True)
    expected = load_file(one / "model" / "model.safetensors")
    found = load_file(two / "model" / "model.safetensors")
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert torch.allclose(tensor, expected[name], rtol=1e-4, atol=1e-5), name
    assert (two / "report.html").exists()
