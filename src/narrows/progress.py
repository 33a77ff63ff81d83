"""Progress of long work: on a terminal a bar with its rate and the time left, elsewhere an occasional line."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

__all__ = ["Meter", "Progress", "drawing", "hidden", "progress"]

SECONDS_BETWEEN_LINES = 30.0


class Meter:
    """A counter of work done.

    Attributes:
        done: the count.
        note: short text shown beside the count.
    """

    def __init__(self, done: int) -> None:
        self.done = done
        self.note = ""

    def advance(self, n: int = 1) -> None:
        """Add n to the count."""
        self.to(self.done + n)

    def to(self, done: int) -> None:
        """Set the count."""
        self.done = done


class _Bar(Meter):
    def __init__(self, bar: Bars, description: str, total: int, done: int) -> None:
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


class Progress(Protocol):
    """Shows the progress of long work."""

    def __call__(
        self, description: str, total: int, unit: str = "steps", done: int = 0
    ) -> AbstractContextManager[Meter]:
        """Return a context manager that gives a meter.

        Args:
            description: short description of the work.
            total: total number of units.
            unit: name of the units counted, in the plural.
            done: number of units already done.
        """


@contextmanager
def progress(description: str, total: int, unit: str = "steps", done: int = 0) -> Iterator[Meter]:
    """Show the progress of work on standard error while the block runs; see `Progress`."""
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(unit),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
        )
        with Bars(*columns, console=console) as bar:
            yield _Bar(bar, description, total, done)
    else:
        yield _Lines(description, total, unit, done)


@contextmanager
def hidden(description: str, total: int, unit: str = "steps", done: int = 0) -> Iterator[Meter]:
    """Count work without showing it; see `Progress`."""
    yield Meter(done)


@contextmanager
def drawing(
    progress: Progress, description: str, examples: int, length: int, rate: float | None
) -> Iterator[Callable[[int, int], None]]:
    """Show the progress of drawing examples position by position, in seconds if the data have a rate.

    Args:
        progress: shows the progress.
        description: short description of the work.
        examples: number of examples.
        length: number of positions per example.
        rate: positions per second; None for data that are not in time.

    Yields:
        a function to call with the number of positions done in each example, and their total number.
    """
    scale = 1 if rate is None else rate
    unit = "positions" if rate is None else "s of data"
    with progress(description, math.ceil(examples * length / scale), unit) as meter:

        def advance(done: int, total: int) -> None:
            # Not at every position, because updating the bar takes as long as drawing one.
            counted = examples * done / scale
            whole = math.ceil(counted) if done == total else math.floor(counted)
            if whole > meter.done:
                meter.to(whole)

        yield advance
