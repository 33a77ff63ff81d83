import pytest

from narrows import progress as module
from narrows.progress import hidden, progress


def test_without_a_terminal_a_line_tells_rate_and_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 10.0, 40.0, 50.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    with progress("train", total=100, done=20) as meter:
        meter.note = "loss 3"
        meter.advance(10)
        meter.advance(10)
        meter.advance(10)
    assert capsys.readouterr().err == "train 40/100  0.5 steps/s  0:02:00 left  loss 3\n"


def test_hidden_progress_counts_and_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with hidden("train", total=3) as meter:
        meter.advance(2)
    assert meter.done == 2
    assert capsys.readouterr().err == ""
