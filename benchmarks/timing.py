"""Timing shared by the benchmarks: their options, medians of interleaved repeats, and table headers."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch

__all__ = ["begin", "head", "medians", "seconds"]


def begin(about: str | None) -> argparse.Namespace:
    """Read `device`, `threads` and `repeats` from the command line, and set the number of threads."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--repeats", type=int, default=7, help="timed rounds")
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    return settings


def head(settings: argparse.Namespace, headings: Sequence[str], note: str = "") -> None:
    """Print the environment of the measurement, and the header of the table."""
    print(f"torch {torch.__version__}, {settings.device}, {settings.threads} CPU threads, float32")
    if note:
        print(note)
    print("| " + " | ".join(headings) + " |")
    print("|" + " ---: |" * len(headings))


def medians(actions: Sequence[Callable[[], object]], device: str, repeats: int) -> list[float]:
    """Return the median seconds of each action; actions alternate, and a first round warms up."""
    rounds = [[seconds(action, device) for action in actions] for _ in range(repeats + 1)]
    return [statistics.median(column) for column in zip(*rounds[1:], strict=True)]


def seconds(action: Callable[[], object], device: str) -> float:
    """Return the seconds that `action` needs."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    action()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
