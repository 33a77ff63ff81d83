"""Runs on the hub: every command works by their id, and none leaves a folder that hides them."""

import fnmatch
import shutil
from pathlib import Path

import pytest

import narrows
from narrows.cli import main

ID = "someone/digits"


@pytest.fixture
def fetched(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the hub's run lies once fetched: only the files that were asked for."""
    snapshot = tmp_path / "cache" / "snapshot"

    def download(name: str, allow_patterns: list[str], ignore_patterns: str) -> str:
        assert name == ID
        for file in trained.rglob("*"):
            relative = file.relative_to(trained).as_posix()
            wanted = any(fnmatch.fnmatch(relative, pattern) for pattern in allow_patterns)
            if file.is_file() and wanted and not fnmatch.fnmatch(relative, ignore_patterns):
                (snapshot / relative).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, snapshot / relative)
        return str(snapshot)

    monkeypatch.setattr("narrows.pretrained.snapshot_download", download)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return snapshot


def test_results_of_the_hubs_runs_go_into_a_folder_of_their_own(fetched: Path) -> None:
    assert main(["sample", ID, "-n", "2"]) == 0
    assert main(["reconstruct", ID]) == 0
    assert main(["evaluate", ID, "--limit", "4"]) == 0
    written = {file.name for file in (Path("runs") / "someone--digits").iterdir()}
    assert written == {"samples.png", "reconstructions.png", "evaluation.json", "report.html"}
    assert not Path("someone").exists()
    assert not (fetched / "report.html").exists()
    assert not (fetched / "checkpoints").exists()
    assert narrows.load(ID).classes == narrows.load(fetched).classes


def test_a_prior_is_not_fitted_into_the_hubs_cache(fetched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prior", ID]) == 1
    assert f"hf download {ID} --local-dir runs/digits" in capsys.readouterr().err


def test_a_folder_that_hides_the_hubs_run_is_named(fetched: Path) -> None:
    Path(ID).mkdir(parents=True)
    with pytest.raises(narrows.NarrowsError, match="from another working directory"):
        narrows.load(ID)
