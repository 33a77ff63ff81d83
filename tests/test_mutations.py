"""Random damage to the files of finished runs: never a wrong output in silence, a traceback, or code that runs."""

import random
import sys
from pathlib import Path

import pytest

from benchmarks.mutate import FAILURES, READERS, Workshop

QUICK = ("load", "decode")


def test_damage_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    workshop = Workshop(tmp_path, [reader for reader in READERS if reader.name in QUICK])
    workshop.runs = workshop.runs[:1]  # of images
    workshop.prepare(lambda: None)
    for number in range(30):
        outcome, _ = workshop.try_one(number, random.Random(number))
        assert outcome.verdict not in FAILURES, f"{outcome.case}: {outcome.detail}"
