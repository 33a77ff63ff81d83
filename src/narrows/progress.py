"""Progress of long work: a bar with its rate and the time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

__all__ = ["Meter", "progress", "sound_progress"]

SECONDS_BETWEEN_LINES = 30.0


class Meter:
    """Counts work done; `note` is a short text shown beside the count."""

    def __init__(self, done: int) -> None:
        self.done = done
        self.note = ""

    def advance(self, n: int = 1) -> None:
        """Count n more."""
        self.to(self.done + n)

    def to(self, done: int) -> None:
        """Set the count."""
        self.done = done


class _Bar(Meter):
    def __init__(self, bar: Progress, description: str, total: int, done: int) -> None:
        super().__init__(done)
        self.bar = bar
        self.task = bar.add_task(description, total=total, completed=done, note="")

    def to(self, done: int) -> None:
        self.done = done
        self.bar.update(self.task, completed=done, note=self.note)


class _Lines(Meter):
    def __init__(self, description: str, total: int, unit: str, done: int) -> None:
        super().__init__(done)
        self.description, self.total, self.unit = description, total, unit
        self.first, self.started = done, time.monotonic()
        self.printed = self.started

    def to(self, done: int) -> None:
        self.done = done
        now = time.monotonic()
        if now - self.printed > SECONDS_BETWEEN_LINES and done > self.first:
            self.printed = now
            rate = (done - self.first) / (now - self.started)
            left = timedelta(seconds=round((self.total - done) / rate))
            print(
                f"{self.description} {done}/{self.total}  {rate:.1f} {self.unit}/s  {left} left  {self.note}",
                file=sys.stderr,
                flush=True,
            )


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.1f} {self.unit}/s", style="dim")


@contextmanager
def progress(description: str, total: int, unit: str = "steps", done: int = 0, quiet: bool = False) -> Iterator[Meter]:
    """Show the progress of `total` pieces of work, on standard error, while the block runs.

    Args:
        description: what the work is.
        total: how many `unit`s there are in all.
        unit: what is counted.
        done: how many were done before.
        quiet: count, but show nothing (the other processes of a run).
    """
    console = Console(stderr=True)
    if quiet:
        yield Meter(done)
    elif console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(unit),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
        )
        with Progress(*columns, console=console) as bar:
            yield _Bar(bar, description, total, done)
    else:
        yield _Lines(description, total, unit, done)


@contextmanager
def sound_progress(
    description: str, sounds: int, samples: int, sample_rate: int
) -> Iterator[Callable[[int, int], None]]:
    """Show the progress of `sounds` that grow by a sample at a time to so many `samples`, in seconds of sound.

    Yields:
        what to call with the samples done of each sound, and with all of them.
    """
    with progress(description, -(-sounds * samples // sample_rate), "s of sound") as meter:

        def advance(done: int, total: int) -> None:
            # Not at every sample: a bar takes as long to draw as one does.
            seconds = -(-sounds * done // sample_rate) if done == total else sounds * done // sample_rate
            if seconds > meter.done:
                meter.to(seconds)

        yield advance
