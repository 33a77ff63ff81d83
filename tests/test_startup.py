"""The command line answers without PyTorch, whose import alone takes seconds."""

import subprocess
import sys

import pytest

CHECK = """
import sys
from narrows.cli import main
try:
    status = main({arguments})
except SystemExit as end:
    status = end.code
heavy = {{"torch", "numpy", "jsonargparse", "matplotlib", "sklearn", "datasets"}} & set(sys.modules)
sys.exit(status or (f"imported {{sorted(heavy)}}" if heavy else 0))
"""


@pytest.mark.parametrize("arguments", [["--help"], ["recipes"], ["train", "--help"], ["convert-voice", "--help"]])
def test_no_heavy_package_is_imported(arguments: list[str]) -> None:
    code = CHECK.format(arguments=arguments)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
