import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from narrows.commands.apart import run_apart
from narrows.errors import NarrowsError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the child processes call is in this file."""
    monkeypatch.syspath_prepend(str(ROOT))


def write(file: Path, text: str) -> None:
    file.write_text(text)
    print(f"wrote {text}")


def refuse() -> None:
    print("so far so good")
    raise NarrowsError("depth is 0: it must be at least 1")


def stumble() -> None:
    raise ZeroDivisionError("nothing to divide by")


def write_and_wait(file: Path) -> None:
    file.write_text(str(os.getpid()))
    time.sleep(60)


def test_every_task_runs_in_its_own_process_and_prints_to_its_file(tmp_path: Path) -> None:
    looks = []
    work = {tmp_path / name / "log.txt": partial(write, tmp_path / name / "out", name) for name in "abc"}
    run_apart(work, 2, lambda: looks.append(1))
    assert [(tmp_path / name / "out").read_text() for name in "abc"] == ["a", "b", "c"]
    assert [log.read_text() for log in work] == ["wrote a\n", "wrote b\n", "wrote c\n"]
    assert looks


def test_a_task_that_fails_ends_the_others_and_says_why(tmp_path: Path) -> None:
    started = tmp_path / "pid"
    work = {tmp_path / "long.txt": partial(write_and_wait, started), tmp_path / "short.txt": refuse}
    with pytest.raises(NarrowsError, match=r"depth is 0: it must be at least 1 \(status 1; .*short\.txt"):
        run_apart(work, 2, lambda: None)
    if started.exists():
        with pytest.raises(ProcessLookupError):
            os.kill(int(started.read_text()), 0)


def test_an_error_that_nobody_foresaw_is_told_with_its_traceback_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    with pytest.raises(NarrowsError, match=r"ZeroDivisionError: nothing to divide by \(status 1"):
        run_apart({log: stumble}, 1, lambda: None)
    assert "in stumble" in log.read_text()


def test_no_task_outlives_a_killed_parent(tmp_path: Path) -> None:
    started = tmp_path / "pid"
    script = (
        "from functools import partial; from pathlib import Path\n"
        "from narrows.commands.apart import run_apart; from tests.commands.test_apart import write_and_wait\n"
        f"run_apart({{Path({str(tmp_path / 'log.txt')!r}): partial(write_and_wait, Path({str(started)!r}))}}, 1, "
        "lambda: None)\n"
    )
    (tmp_path / "main.py").write_text(f"if __name__ == '__main__':\n    exec({script!r})\n")
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / "main.py")], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    until = time.monotonic() + 60
    while not started.exists() or not started.read_text():
        assert time.monotonic() < until
        time.sleep(0.1)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    child = int(started.read_text())
    while _alive(child):
        assert time.monotonic() < until
        time.sleep(0.1)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"
