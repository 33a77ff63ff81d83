"""Run functions in separate processes, several at a time, each with its own memory and a log file for its output."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing import connection, get_all_start_methods, get_context, parent_process
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from narrows.errors import NarrowsError
from narrows.registry import is_trusted, trusted_code

__all__ = ["run_apart"]

SECONDS_BETWEEN_LOOKS = 1.0
PRELOADED = ["narrows.commands.train", "narrows.commands.measure"]


def run_apart(work: Mapping[Path, Callable[[], object]], at_once: int, watch: Callable[[], object]) -> None:
    """Call each function in its own process; if one fails, or this process is interrupted, terminate all.

    Args:
        work: functions that can be pickled, by the log file to which their output is appended.
        at_once: the number of processes at a time, which share the cores.
        watch: called about every second while they run, and once at the end.

    Raises:
        NarrowsError: if a function fails, with its last line of output and its log file.
    """
    context = _context()
    threads = max(1, torch.get_num_threads() // at_once)
    waiting, running = list(work.items()), dict[BaseProcess, Path]()
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                log, function = waiting.pop(0)
                log.parent.mkdir(parents=True, exist_ok=True)
                given = (function, log, threads, is_trusted(), dict(os.environ))
                process = context.Process(target=_apart, args=given)  # type: ignore[attr-defined]
                process.start()
                running[process] = log
            connection.wait([process.sentinel for process in running], SECONDS_BETWEEN_LOOKS)
            watch()
            for process in [process for process in running if not process.is_alive()]:
                log = running.pop(process)
                if process.exitcode:
                    raise NarrowsError(f"{_last_line(log)} (status {process.exitcode}; its full output is in {log})")
    finally:
        for process in running:
            process.terminate()
            process.join()


def _context() -> BaseContext:
    """Return the way to start processes: forks of a server that has imported what they need, and has no threads.

    A fork of this process would inherit its thread locks and its random state. Where there are no forks, each process
    imports everything itself.
    """
    context = get_context("forkserver" if "forkserver" in get_all_start_methods() else "spawn")
    context.set_forkserver_preload(PRELOADED)
    return context


def _apart(
    function: Callable[[], object], log: Path, threads: int, trusted: bool, environment: Mapping[str, str]
) -> None:
    os.environ.clear()
    os.environ.update(environment)  # the server has that of its start
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with log.open("a") as file, redirect_stdout(file), redirect_stderr(file):
        try:
            with trusted_code(trusted):
                function()
        except NarrowsError as error:
            print(error)
            sys.exit(1)
        except Exception:
            traceback.print_exc()
            sys.exit(1)


def _end_with_parent() -> None:
    """Exit when the parent does, so that no child keeps writing files that the parent's next run will write."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _last_line(log: Path) -> str:
    lines = log.read_text().split("\n") if log.exists() else []
    return next((line for line in reversed(lines) if line.strip()), "a process ended without any output")
