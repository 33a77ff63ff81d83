"""Runs saved by the first version still load, and give what they gave then; see tests/saved/README.md."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import narrows
from narrows.cli import main
from narrows.commands.codes import read_codes
from narrows.sampling import Sampling

SAVED = Path(__file__).parent / "saved"


def expected(kind: str) -> dict[str, Tensor]:
    with np.load(SAVED / kind / "expected.npz") as content:
        return {name: torch.from_numpy(content[name]) for name in content.files}


SEEDED = Sampling(seed=0)


def test_images() -> None:
    then, model = expected("images"), narrows.load(SAVED / "images")
    assert model.prior is not None
    labels = torch.tensor([0, 5, 9])
    assert model.classes == list("0123456789")
    assert torch.equal(model.encode(then["x"]), then["codes"])
    torch.testing.assert_close(model.reconstruct(then["x"]), then["reconstruction"])
    torch.testing.assert_close(model.sample(3, labels, SEEDED), then["samples"])
    torch.testing.assert_close(-model.prior.log_prob(then["codes"], labels), then["prior_nats"])


def test_sound() -> None:
    then, model = expected("sound"), narrows.load(SAVED / "sound")
    assert model.prior is not None
    speakers = torch.tensor([0, 2])
    assert model.classes == ["al", "bo", "cy"]
    assert torch.equal(model.encode(then["x"]), then["codes"])
    torch.testing.assert_close(model.reconstruct(then["x"], speakers, SEEDED), then["reconstruction"])
    torch.testing.assert_close(model.sample(2, speakers, SEEDED), then["samples"])
    windows = torch.cat([then["codes"]] * 2, 1)[:, :16]
    torch.testing.assert_close(-model.prior.log_prob(windows, speakers), then["prior_nats"])


@pytest.mark.parametrize(("kind", "lengths"), [("images", [4, 4, 4]), ("sound", [28, 28, 44])])
def test_files_of_codes(kind: str, lengths: list[int], tmp_path: Path) -> None:
    found = read_codes(SAVED / kind / "codes.npz", str(SAVED / kind))
    assert [len(part) for part in found.codes] == lengths
    if kind == "images":
        assert torch.equal(torch.from_numpy(np.stack(found.codes)), expected("images")["codes"])
    speaker = ["--speaker", "bo"] if kind == "sound" else []
    command = ["decode", str(SAVED / kind), str(SAVED / kind / "codes.npz"), *speaker, "-o", str(tmp_path / "out")]
    assert main(command) == 0
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_a_run_is_measured_with_a_word_about_its_splits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = shutil.copytree(SAVED / "images", tmp_path / "run")
    (run / "metrics.jsonl").write_text('{"step": 20, "split": "train", "loss": 1.0}\n')
    (run / "prior" / "metrics.jsonl").write_text('{"step": 10, "split": "train", "loss": 1.0}\n')
    assert main(["evaluate", str(run), "--limit", "10"]) == 0
    assert "held examples out by their position" in caplog.text
