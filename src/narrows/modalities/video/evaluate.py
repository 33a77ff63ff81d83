"""The figures that `narrows evaluate --imagine` adds for video, and the file with all of them by step."""

from __future__ import annotations

import json

import numpy as np
import torch

from narrows.atomic import whole_file
from narrows.errors import NarrowsError
from narrows.modalities.video.average_motion import average_motion, motion_between
from narrows.modalities.video.clips import VideoClips
from narrows.modalities.video.dataset import VideoData
from narrows.modalities.video.foresight import Judges, foresee, starts_of
from narrows.modalities.video.future_bits import Coded, future_bits, window_starts
from narrows.modalities.video.imagination import prior_of
from narrows.modalities.video.inverse_model import pairs_of, train_inverse
from narrows.models import Autoencoder
from narrows.pretrained import fingerprint
from narrows.priors import guided
from narrows.progress import Progress
from narrows.sampling import Sampling
from narrows.training.run import RunFolder

__all__ = ["FILE", "evaluate_imagination", "fingerprints"]

FILE = "imagination.json"
GIVEN = 6
"""Given frames, as in the paper."""
STREAMS = 32
"""The most starts after which frames are imagined."""
SHOWN = (1, 2, 5, 10, 20, 50, 100, 200, 500)
"""Steps at which figures are printed."""
APART = 10
"""The first step up to which there is a Fréchet distance."""
TRAINING_STEPS = 600
"""Of the inverse model."""
MOTIONS = 300
"""The most pairs of frames from which the average motions are taken."""


def evaluate_imagination(
    run: RunFolder,
    model: Autoencoder,
    data: VideoData,
    examples: VideoClips,
    split: str,
    steps: int,
    guidance: float,
    progress: Progress,
) -> dict[str, float]:
    """Return the bits of held-out futures and figures of imagined frames at some steps, and write all by step.

    They are written to `imagination.json` among the run's outputs, with the split and the fingerprints of the model and
    its prior, by which the report knows whether they are theirs.

    Args:
        run: the run.
        model: its model.
        data: its data, whose training clips train the inverse model and give the average motions.
        examples: the held-out clips.
        split: the split that they are of.
        steps: number of imagined frames.
        guidance: how much more they follow the actions than those of the data do; see `narrows.priors.Guided`. The bits
            of futures are those of the prior itself.
        progress: shows the progress.

    Raises:
        NarrowsError: if the model has no prior over codes, or the clips are too short.
    """
    if steps < 1:
        raise NarrowsError(f"--imagine is {steps}: it must be at least 1")
    sampling = Sampling(seed=0)
    prior = prior_of(str(run.path), model, sampling)
    drawn_from = guided(prior, guidance)
    starts = starts_of(examples, GIVEN + steps, STREAMS)
    coded = [_coded(model, examples, index) for index in range(len(examples))]
    with progress("bits of futures", len(window_starts(prior, examples.lengths.tolist())), "windows") as meter:
        bits = future_bits(prior, coded, advance=meter.advance)
    judges = _judges(data, progress)
    shown = [step for step in SHOWN if step <= steps]
    with progress("imagine", len(starts) * steps, "frames") as meter:
        ends = [step for step in shown if step >= APART]
        found = foresee(model, drawn_from, starts, GIVEN, judges, ends, sampling, meter.advance)
    content = {
        "split": split,
        "fingerprints": fingerprints(run),
        "streams": found.streams,
        "given": GIVEN,
        "guidance": guidance,
        "bits": bits,
        "steps": found.steps,
        "spans": found.spans,
    }
    with whole_file(run.outputs / FILE) as aside:
        aside.write_text(json.dumps(content, indent=1))
    return bits | found.at(shown)


def fingerprints(run: RunFolder) -> dict[str, str]:
    """Return the SHA-256 of the weights of a run's model and prior."""
    return {"model": fingerprint(run.path), "prior": fingerprint(run.prior.path)}


def _judges(data: VideoData, progress: Progress) -> Judges:
    """Return the average motions and the inverse model of the training clips; none without actions."""
    chosen, clips = pairs_of(data.train), data.train
    if not len(chosen):
        return Judges()
    some = chosen[np.linspace(0, len(chosen) - 1, min(MOTIONS, len(chosen))).round().astype(int)]
    before, after = (VideoClips.to_x(torch.from_numpy(clips.values[at])).transpose(0, 1) for at in (some - 1, some))
    motion = average_motion(motion_between(before, after), torch.from_numpy(clips.features[some]))
    if not data.actions.names:
        return Judges(motion)
    with progress("inverse model", TRAINING_STEPS, "steps") as meter:
        return Judges(motion, train_inverse(clips, TRAINING_STEPS, advance=meter.advance))


def _coded(model: Autoencoder, clips: VideoClips, index: int) -> Coded:
    part = slice(clips.offsets[index], clips.offsets[index + 1])
    x = clips[index].unsqueeze(0).to(next(model.parameters()).device)
    return model.encode(x)[0].cpu(), torch.from_numpy(clips.features[part])
