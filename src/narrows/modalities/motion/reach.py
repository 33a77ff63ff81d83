"""The command `narrows search`: the motions of a model that best meet the goals of a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from narrows.atomic import whole_file
from narrows.commands.source import open_run
from narrows.decoding import class_index, require_prior
from narrows.modalities.motion.from_above import from_above
from narrows.modalities.motion.goal_files import read_goals
from narrows.modalities.motion.goals import Goals, MotionBatch, PoseGoal
from narrows.modalities.motion.modality import MODALITY, require_motion
from narrows.modalities.motion.motion_search import decoded, decoded_costs
from narrows.modalities.motion.proposals import proposals_of
from narrows.modalities.motion.results import remove_earlier
from narrows.modalities.motion.search import Found, Outcome, Round, SearchSettings, search
from narrows.modalities.motion.shown import check_film, shown, write_film
from narrows.modalities.motion.standardised import Standardised
from narrows.models import Autoencoder
from narrows.pretrained import load
from narrows.progress import Progress, hidden
from narrows.report.page import Block, Cell, Figure, Page, Section, Table, write_page
from narrows.report.svg import ACCENT, chart, padded, to_svg
from narrows.sampling import Sampling

__all__ = ["Reached", "reach"]


class Reached(NamedTuple):
    """The motions found, and what they miss."""

    outcome: Outcome
    missed: list[str]
    """The goals that the best motion does not meet, in words."""
    page: Path

    def __str__(self) -> str:
        best, missed = self.outcome.best[0], ", ".join(self.missed)
        met = f"no motion found meets the goal: the best misses {missed}" if missed else "the best meets the goal"
        found = f"{self.outcome.decodings:,} motions decoded; cost {best.cost:.4g}, {best.bits:.1f} bits"
        return f"{found}; {met}\n{self.page}"


def reach(
    folder: str,
    goal: Path,
    out: Path | None = None,
    settings: SearchSettings | None = None,
    sampling: Sampling | None = None,
    label: str | None = None,
    film: str | None = None,
    progress: Progress = hidden,
) -> Reached:
    """Search for motions that meet goals, and write the best ones with a page and `search.json`.

    Args:
        folder: the run folder, or its id on the hub.
        goal: the file with the goals; see `narrows.modalities.motion.goal_files`.
        out: folder to write to; None means `found` in the run folder.
        settings: how to search; None for the defaults.
        sampling: temperature, top-k and top-p of a learned prior; the seed is that of `settings`.
        label: name or number of the class of all candidates; None draws classes with equal probability.
        film: gif or mp4, to also write a film of each motion; None for none.
        progress: shows the progress.

    Raises:
        NarrowsError: if the model is not one of motion, or has codes but no prior; if an option has no effect, or the
            goals cannot be read or do not suit the model's data.
    """
    model, settings, sampling = load(folder), settings or SearchSettings(), sampling or Sampling()
    require_motion(folder, model, "`narrows search` searches for motions")
    require_prior(folder, model, model.sampled_prior, sampling, label)
    scale = Standardised.of(model.spec.details)
    check_film(model.spec, film)
    goals = read_goals(goal, scale.format, model.sampled_length)
    proposals = proposals_of(model, sampling, None if label is None else class_index(model, label))
    outcome = search(proposals, decoded_costs(model, goals), settings, progress)
    out = out or open_run(folder).outputs / "found"
    motions = [
        Motion(
            f"{number:03}{scale.format.suffix}",
            decoded(model, found.candidate)[0],
            None if found.candidate.labels is None else model.classes[int(found.candidate.labels)],
            found,
        )
        for number, found in enumerate(outcome.best)
    ]
    remove_earlier(out, scale.format.suffix)
    for motion in motions:
        MODALITY.write(out / motion.file, motion.x, model.spec)
        if film:
            name = f"cost {motion.found.cost:.4g}, {motion.found.bits:.0f} bits"
            write_film(out / Path(motion.file).with_suffix(f".{film}"), {name: motion.x}, model.spec)
    missed = goals.missed(outcome.best[0].misses)
    figures = _figures(goals, motions, outcome, missed)
    with whole_file(out / "search.json") as aside:
        record = {"run": folder, "goal": goal.name, "settings": asdict(settings), **figures}
        aside.write_text(json.dumps(record, indent=1), encoding="utf-8")
    _write_page(out / "index.html", f"Motions for {goal.name}", model, goals, motions, outcome)
    return Reached(outcome, missed, out / "index.html")


class Motion(NamedTuple):
    """A motion found, [C, T], with its file."""

    file: str
    x: Tensor
    label: str | None
    """Its class; None if there are none."""
    found: Found


def _figures(goals: Goals, motions: Sequence[Motion], outcome: Outcome, missed: list[str]) -> dict[str, Any]:
    """Return the figures of a search as JSON values."""
    return {
        "decodings": outcome.decodings,
        "missed": missed,
        "units": {goal.name: goal.unit for goal in goals.parts},
        "within": {goal.name: goal.within for goal in goals.parts},
        "best": [
            {"file": file, "class": label, "cost": found.cost, "misses": found.misses, "bits": found.bits}
            for file, _, label, found in motions
        ],
        "rounds": [one._asdict() for one in outcome.rounds],
    }


def _write_page(
    path: Path, title: str, model: Autoencoder, goals: Goals, motions: Sequence[Motion], outcome: Outcome
) -> None:
    """Write the page with the motions, their paths and their figures."""
    scale = Standardised.of(model.spec.details)
    best, missed = outcome.best[0], goals.missed(outcome.best[0].misses)
    rows = [
        {f"{number}: cost {motion.found.cost:.4g}, {motion.found.bits:.0f} bits": motion.x}
        for number, motion in enumerate(motions)
    ]
    poses = [goal.pose for goal in goals.parts if isinstance(goal, PoseGoal)]
    rows[1:1] = [{"the pose to reach": scale.to_x(pose[None])} for pose in poses]
    text = f"The best motion misses {', '.join(missed)}." if missed else "The best motion meets the goal."
    blocks: list[Block] = [shown(rows, model.spec, "The best motions found, the best first by cost and bits together.")]
    if scale.format.has_root:
        batches = [MotionBatch(scale.to_features(motion.x)[None], scale.format) for motion in motions]
        blocks.append(from_above(batches, goals))
    facts = {
        "cost": f"{best.cost:.4g}",
        "-log2 p(z)": f"{best.bits:.1f} bits",
        "candidates": f"{outcome.decodings:,} decoded",
    }
    sections = [
        Section("Motions", text, blocks),
        Section("Figures", blocks=[_table(goals, motions), _rounds(outcome.rounds)]),
    ]
    write_page(path, Page(title, facts=facts, sections=sections))


def _table(goals: Goals, motions: Sequence[Motion]) -> Table:
    columns = ["file", "class", "cost", *(f"{goal.name}, {goal.unit}" for goal in goals.parts), "-log2 p(z), bits"]
    rows: list[list[Cell]] = [
        [file, label, found.cost, *(found.misses[goal.name] for goal in goals.parts), found.bits]
        for file, _, label, found in motions
    ]
    return Table(
        "By how much each motion misses the goals. The cost is the sum in cm, degrees and cm/s.", columns, rows
    )


def _rounds(rounds: Sequence[Round]) -> Figure:
    drawing, axes = chart("Least cost with that of the bits, by candidates decoded", [], alone=True)
    x, y = (np.array([getattr(one, name) for one in rounds]) for name in ("decodings", "best"))
    axes.plot(x, y, color=ACCENT, linewidth=1.8, marker="o", markersize=4)
    axes.set(xlim=padded(0, x.max()), ylim=padded(y.min(), y.max()))
    return Figure("The least cost so far after each round; the first one draws from the prior alone.", to_svg(drawing))
