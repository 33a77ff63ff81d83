"""The report on imagined frames: the strip of van den Oord et al. 2017, figure 7, films, and figures by step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from narrows.files import read_json
from narrows.modalities.video.actions import Actions
from narrows.modalities.video.clips import VideoClips
from narrows.modalities.video.evaluate import FILE, GIVEN, SHOWN, fingerprints
from narrows.modalities.video.future_bits import FUTURE_BITS
from narrows.modalities.video.imagination import Start, imagined
from narrows.modalities.video.player import Films
from narrows.models import Autoencoder
from narrows.report.methods import method_curves
from narrows.report.page import Block, Section, Table
from narrows.report.pictures import grid
from narrows.sampling import Sampling
from narrows.training.run import RunFolder

__all__ = ["imagination_section"]

STEPS = 10
"""Imagined frames, as in the paper."""
ROWS = 4
"""The most actions shown."""
UNKNOWN = "unknown actions"
CURVES = {
    "psnr": "PSNR to the real future, dB",
    "ssim": "SSIM to the real future",
    "sharpness": "Sharpness, variance of the Laplacian",
    "sharpness_ratio": "Sharpness relative to reconstructions, median",
    "action_accuracy": "Share of actions read right",
}
"""The titles of figures by step."""


def imagination_section(run: RunFolder, model: Autoencoder, clips: VideoClips, split: str) -> Iterator[Section]:
    """Yield the section on imagined frames; none without a prior of frames or clips that are long enough.

    Args:
        run: the run, whose figures by `narrows evaluate --imagine` are shown if they are of this model and prior.
        model: its model.
        clips: the clips whose frames are given.
        split: the split that these are of.
    """
    long = np.flatnonzero(clips.lengths >= GIVEN)
    if model.prior is None or model.stages > 1 or model.prior.grid[0] < 2 or not len(long):
        return
    index = int(long[0])
    first = int(clips.offsets[index]) + (int(clips.lengths[index]) - GIVEN) // 2
    part = slice(first, first + GIVEN)
    x = VideoClips.to_x(torch.from_numpy(clips.values[part]))
    actions = Actions.of(model.spec.details)
    lists = {
        name: np.tile(actions.encoded(np.array([number])), (STEPS, 1))
        for number, name in enumerate(actions.names[:ROWS])
    } or {UNKNOWN: np.zeros((STEPS, actions.channels), np.float32)}
    start = Start(x, clips.features[part], clips.name(index))
    done = imagined(model, model.prior, start, lists, STEPS, 1, Sampling(seed=0))
    frames = torch.cat([clip.transpose(0, 1) for clip in done.clips])
    text = (
        f"{GIVEN} frames of a clip of the {split} split are given as codes. The prior draws the codes of {STEPS} more "
        "under one repeated action for each row, and all are decoded at the end."
    )
    caption = f"The first {GIVEN} frames are given, the others imagined."
    blocks: list[Block] = [grid(frames, GIVEN + STEPS, done.names, caption)]
    blocks.append(Films(caption, [list(zip(done.names, done.clips, strict=True))], model.spec.rate))
    if found := _measured(run):
        text += (
            f" The figures are means over {found['streams']} parts of clips of {_named(found['split'])}, imagined "
            f"under their own actions with guidance {found['guidance']:g}; `repeated` is the last given frame, "
            "and `shifted` is that frame moved by each action's average motion."
        )
        blocks += [_bits(found["bits"], found["split"]), *_by_step(found)]
    yield Section("Imagined frames", text, blocks)


def _measured(run: RunFolder) -> dict[str, Any] | None:
    """Return what `narrows evaluate --imagine` found; None if it was not run, or with another model or prior."""
    file = run.outputs / FILE
    found = read_json(file) if file.exists() else None
    return found if found and found.get("fingerprints") == fingerprints(run) else None


def _bits(bits: Mapping[str, float], split: str) -> Table:
    names = zip(("own", "of other frames", "unknown"), FUTURE_BITS, strict=True)
    rows: list[list[str | float | None]] = [[actions, bits[name]] for actions, name in names if name in bits]
    caption = f"Bits of a code of futures in {_named(split)}, given the frames before."
    return Table(caption, ["actions", "bits per code"], rows)


def _named(split: str) -> str:
    return "all splits" if split == "all" else f"the {split} split"


def _by_step(found: Mapping[str, Any]) -> Iterator[Block]:
    steps = found["steps"]
    length = len(steps["imagined_psnr"])
    for figure, title in CURVES.items():
        own = {name.removesuffix(f"_{figure}"): values for name, values in steps.items() if name.endswith(f"_{figure}")}
        if own and length > 1:
            yield method_curves(title, {name: [list(enumerate(values, 1))] for name, values in own.items()}, "step")
    shown = [step for step in SHOWN if step <= length]
    rows: list[list[str | float | None]] = [
        [name.replace("_", " "), *(values[step - 1] for step in shown)] for name, values in steps.items()
    ]
    rows += [
        [name.replace("_", " "), *(values.get(str(step)) for step in shown)] for name, values in found["spans"].items()
    ]
    yield Table(
        "Figures by step; Fréchet distances are over the 5 steps up to it.",
        ["", *(f"step {step}" for step in shown)],
        rows,
    )
