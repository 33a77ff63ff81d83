"""Kill training at random moments, resume it, and compare the result with that of an uninterrupted run.

Two tiny runs, one of images and one of sound, and their priors are repeatedly killed (SIGKILL). Half of the kills are
at a random operation on a file of the run (a checkpoint, an exported model, the figures or the report), the other half
at a random moment. Each is resumed until it ends; its figures (except timings), weights and checksums must then equal
those of the uninterrupted run, bit for bit.

    python -m benchmarks.kill [--kills 50] [--seed 0]

Exits with status 1 if anything differs or cannot be resumed.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import torch

from benchmarks.tiny_runs import TinyRun, tiny_runs
from narrows.cli import main as narrows
from narrows.progress import Meter, progress

__all__ = ["Job", "main"]

STEPS, EVERY = 24, 3
TIMINGS = ("steps_per_second", "waiting", "peak_memory_mib")
OPERATIONS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}
"""The audit events that count: operations on a file."""
UNCOMPARED = ("tensorboard", "report.html", "samples", "reconstructions", "checkpoints")


@dataclass
class Job:
    """The training of a model or of its prior.

    Attributes:
        name: name of the job.
        run: the recipe.
        prior: whether it trains the prior of the run.
        folder: folder for its runs.
        landed: number of kills by where they happened.
        faults: what went wrong.
    """

    name: str
    run: TinyRun
    prior: bool
    folder: Path
    landed: collections.Counter[str] = field(default_factory=collections.Counter)
    faults: list[str] = field(default_factory=list)
    operations: int = 0
    seconds: float = 0.0

    @property
    def whole(self) -> Path:
        """Folder of the uninterrupted run."""
        return self.folder / "whole"

    def arguments(self, out: Path) -> list[str]:
        """Return the arguments of `narrows` that train into `out`, or continue what is there."""
        part = out / "prior" if self.prior else out
        resume = (part / "recipe.yaml").exists()
        return (self.run.prior if self.prior else self.run.train)(out, resume)


def main() -> int:
    """Run all jobs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="total number of kills (50)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments (0)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (1)")
    settings = parser.parse_args()
    dice = random.Random(settings.seed)
    with tempfile.TemporaryDirectory() as scratch:
        jobs = _jobs(Path(scratch))
        with progress("uninterrupted", len(jobs), "runs") as meter:
            for job in jobs:
                _uninterrupted(job, settings.threads)
                meter.advance()
        with progress("kill", settings.kills, "kills") as meter:
            for number, job in enumerate(jobs):
                share = (settings.kills + number) // len(jobs)
                _kill_and_resume(job, share, dice, settings.threads, meter)
    print("| run | kills | where they fell | outcome |")
    print("| --- | ---: | --- | --- |")
    for job in jobs:
        where = ", ".join(f"{place} {count}" for place, count in job.landed.most_common())
        print(f"| {job.name} | {job.landed.total()} | {where} | {'; '.join(job.faults) or 'equal, bit for bit'} |")
    return int(any(job.faults for job in jobs))


def _jobs(scratch: Path) -> list[Job]:
    jobs = []
    for run in tiny_runs(scratch / "recipes", STEPS, EVERY):
        for prior in (False, True):
            name = f"{run.kind}, {'prior' if prior else 'model'}"
            jobs.append(Job(name, run, prior, scratch / name.replace(", ", "-")))
    return jobs


def _uninterrupted(job: Job, threads: int) -> None:
    """Train the reference run; for a prior, train its model first."""
    job.folder.mkdir()
    if job.prior:
        _in_child(job, job.run.train(job.whole), threads)
        shutil.copytree(job.whole, job.folder / "model")
    began = time.monotonic()
    status = _in_child(job, job.arguments(job.whole), threads)
    job.seconds = time.monotonic() - began
    if status != 0:
        raise SystemExit(f"{job.name}: the uninterrupted run failed:\n{_log(job)}")
    job.operations = int((job.folder / "operations").read_text())


def _kill_and_resume(job: Job, kills: int, dice: random.Random, threads: int, meter: Meter) -> None:
    """Kill `kills` times; a run that ends before it is killed is compared, and a new one is started."""
    left, attempt = kills, 0
    while left or attempt == 0:
        attempt += 1
        out = job.folder / f"killed-{attempt}"
        if job.prior:
            shutil.copytree(job.folder / "model", out)
        status = -signal.SIGKILL
        while status == -signal.SIGKILL:
            status = _in_child(job, job.arguments(out), threads, _moment(job, dice) if left else {})
            if status == -signal.SIGKILL:
                left -= 1
                job.landed[_place(job)] += 1
                meter.advance()
        if status != 0:
            job.faults.append(f"run {attempt} ended with status {status}: {_log(job)[-300:].strip()}")
            left = 0
        else:
            job.faults += [f"run {attempt}: {fault}" for fault in _differences(job, out)]
        shutil.rmtree(out, ignore_errors=True)


def _moment(job: Job, dice: random.Random) -> dict[str, float]:
    if dice.random() < 0.5:
        return {"operation": dice.randint(1, max(job.operations, 1))}
    return {"seconds": dice.uniform(0, 0.7 * job.seconds)}


def _in_child(job: Job, arguments: list[str], threads: int, moment: dict[str, float] | None = None) -> int:
    """Run `narrows` in a forked child, to save importing; return its exit status, -9 if it was killed."""
    child = os.fork()
    if child == 0:
        _child(job, arguments, threads, moment or {})
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _child(job: Job, arguments: list[str], threads: int, moment: dict[str, float]) -> NoReturn:
    status = 70
    try:
        log = os.open(job.folder / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        place = os.open(job.folder / "place", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        torch.set_num_threads(threads)
        counted = 0
        inside = str(job.folder)

        def count(event: str, details: tuple[object, ...]) -> None:
            nonlocal counted
            if event not in OPERATIONS or not details or not str(details[0]).startswith(inside):
                return
            counted += 1
            os.pwrite(place, f"{event} {details[0]}".ljust(400).encode()[:400], 0)
            if counted == moment.get("operation"):
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        if "seconds" in moment:
            timer = threading.Timer(moment["seconds"], os.kill, (os.getpid(), signal.SIGKILL))
            timer.daemon = True
            timer.start()
        status = narrows(arguments)
        (job.folder / "operations").write_text(str(counted))
    except BaseException as error:  # reported in the log, and by the status
        os.write(2, f"{type(error).__name__}: {error}".encode())
    finally:
        os._exit(status)


def _place(job: Job) -> str:
    """Return the kind of file that the killed process touched last."""
    text = (job.folder / "place").read_text().strip()
    path = text.partition(" ")[2]
    if not path:
        return "start"
    names = [part for part in Path(path).parts if part not in job.folder.parts]
    for word, place in (
        ("checkpoints", "checkpoint"),
        ("tensorboard", "figures"),
        ("metrics", "figures"),
        ("model", "export"),
        ("report", "report"),
        ("recipe", "recipe"),
        ("data.json", "recipe"),
    ):
        if any(word in name for name in names[1:]):
            return place
    return "elsewhere"


def _differences(job: Job, out: Path) -> list[str]:
    """Return how a resumed run differs from the uninterrupted one."""
    part, whole = (out / "prior", job.whole / "prior") if job.prior else (out, job.whole)
    found = []
    if _figures(part) != _figures(whole):
        found.append("metrics.jsonl differs")
    for file in sorted(file for file in whole.rglob("*") if file.is_file()):
        relative = file.relative_to(whole)
        if relative.parts[0] == "model" and file.read_bytes() != (part / relative).read_bytes():
            found.append(f"{relative} differs")
        elif relative.parts[0] not in UNCOMPARED and not (part / relative).exists():
            found.append(f"{relative} is missing")
    if not (out / "report.html").exists():
        found.append("report.html is missing")
    return found


def _figures(run: Path) -> list[dict[str, object]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in TIMINGS} for row in rows]


def _log(job: Job) -> str:
    return (job.folder / "log").read_text()


if __name__ == "__main__":
    sys.exit(main())
