import json
import logging
from functools import partial
from pathlib import Path

import pytest
import torch

from narrows.cli import main
from narrows.errors import NarrowsError
from narrows.progress import progress
from narrows.training.loop import SKIPPED_INFINITE, DivergedError, Task, Work, make_accelerator, train
from narrows.training.run import RunFolder
from narrows.training.settings import TrainingSettings
from narrows.training.skip import WARN_AFTER, WINDOW, GradientSkip


def taken(skip: GradientSkip, *norms: float) -> list[bool]:
    return [skip(torch.tensor(norm)) for norm in norms]


def test_a_norm_far_above_the_median_is_skipped_and_a_usual_one_is_not() -> None:
    skip = GradientSkip(3.0)
    assert taken(skip, 1.0, 2.0, 3.0) == [True, True, True]
    assert taken(skip, 5.9, 6.1, 100.0, 2.0) == [True, False, False, True]


@pytest.mark.parametrize("first", [[], [float("nan")]])
def test_a_norm_that_is_not_finite_is_skipped_and_forgotten(first: list[float]) -> None:
    skip = GradientSkip(3.0)
    assert not any(taken(skip, *first))
    assert taken(skip, 1.0, float("nan"), float("inf"), 1.0) == [True, False, False, True]
    assert skip.norms[:3].tolist() == [1.0, 1.0, 0.0]


def test_skipping_never_starves_and_a_long_run_of_it_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Where all norms become a thousand times larger, they are the usual ones within half a window."""
    skip = GradientSkip(3.0)
    taken(skip, *[1.0] * WINDOW)
    with caplog.at_level(logging.WARNING):
        found = taken(skip, *[1000.0] * WINDOW)
    assert not any(found[: WINDOW // 2])
    assert all(found[WINDOW // 2 + 1 :])
    assert caplog.text.count(f"{WARN_AFTER} steps in a row were skipped") == 1


def test_its_norms_are_state() -> None:
    one, other = GradientSkip(3.0), GradientSkip(3.0)
    taken(one, 1.0, 2.0, 1.5)
    other.load_state_dict(one.state_dict())
    norms = (4.0, 5.0, 6.0, 7.0)
    assert taken(one, *norms) == taken(other, *norms)


def test_a_factor_that_would_skip_the_usual_is_refused() -> None:
    with pytest.raises(NarrowsError, match=r"training\.skip_factor is 1"):
        TrainingSettings(skip_factor=1.0)


def test_a_run_skips_says_so_and_resumes(tiny: Path, tmp_path: Path) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    arguments = ["train", str(tiny), "--training.skip_factor=1.02", "--training.learning_rate=0.3"]
    assert main([*arguments, "--out", str(whole)]) == 0
    rows = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    shares = [row["skipped"] for row in rows if row["split"] == "train"]
    assert set(shares) <= {0.0, 1.0}
    assert 0 < sum(shares) < len(shares)
    assert main([*arguments, "--out", str(halves), "--training.steps=8"]) == 0
    assert main(["train", str(tiny), "--out", str(halves), "--resume", "--training.steps=12"]) == 0
    models = [(run / "model" / "model.safetensors").read_bytes() for run in (whole, halves)]
    assert models[0] == models[1]


class Infinite(Task):
    """Its loss is infinite from some call on, for so many calls."""

    def __init__(self, first: int, count: int) -> None:
        super().__init__()
        self.weight, self.calls = torch.nn.Parameter(torch.ones(())), 0
        self.bad = range(first, first + count)

    def forward(self, *batch: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        self.calls += 1
        loss = self.weight.square() * (float("inf") if self.calls in self.bad else 1.0)
        return loss, {}


class Nothing:
    waited = 0.0

    def __next__(self) -> tuple[torch.Tensor, ...]:
        return ()

    def close(self) -> None:
        pass


@pytest.mark.parametrize(("count", "diverges"), [(3, False), (SKIPPED_INFINITE + 1, True)])
def test_a_few_infinite_losses_are_skipped_and_many_end_the_run(tmp_path: Path, count: int, diverges: bool) -> None:
    settings = TrainingSettings(steps=60, log_every=5, checkpoint_every=60, skip_factor=10.0)
    run = RunFolder(tmp_path)
    run.write_recipe("")
    task = Infinite(10, count)
    work = Work(task, lambda step: Nothing(), validate=dict, begin=lambda: None, export=lambda: None)
    arguments = (work, settings, run, partial(progress, "test"))
    if diverges:
        with pytest.raises(DivergedError):
            train(make_accelerator(settings), *arguments)
    else:
        train(make_accelerator(settings), *arguments)
        assert task.weight.isfinite()
        rows = [json.loads(line) for line in run.metrics.read_text().splitlines()]
        assert sum(row.get("skipped", 0) for row in rows) * 5 == pytest.approx(count)
        assert all(row["gradient_norm_max"] >= row["gradient_norm"] for row in rows if row["split"] == "train")
