"""How good imagined frames are: beside the real future, beside simple predictions, and by themselves, step by step.

The frames after the start of held-out clips are imagined under the clips' own actions. Errors to the real future grow
even for a perfect prior, because a future is uncertain; sharpness, the Fréchet distance and the actions that an inverse
model reads do not depend on which of the possible futures is drawn.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from narrows.data.pixels import to_uint8, to_unit
from narrows.errors import NarrowsError
from narrows.evaluation.frechet import BATCH_SIZE, frechet_distance_of
from narrows.evaluation.pixels import pixel_errors
from narrows.modalities.video.average_motion import shifted
from narrows.modalities.video.clips import VideoClips
from narrows.modalities.video.imagination import imagine_codes
from narrows.modalities.video.inverse_model import PairNetwork, read_actions
from narrows.models import Autoencoder
from narrows.priors import Prior
from narrows.sampling import Sampling

__all__ = ["Foresight", "Judges", "Part", "foresee", "sharpness", "starts_of"]

AT_ONCE = 16
"""Streams that are imagined together."""
FLAT = 1e-6
"""The least sharpness in ratios, so that frames without detail give no ratio of 0 or infinity."""
SPAN = 5
"""Steps whose frames are taken together for a Fréchet distance, which needs many."""


class Part(NamedTuple):
    """A part of a clip, whose first frames are given and whose others are compared with imagined ones."""

    x: Tensor
    """[3, T, H, W]."""
    features: Tensor
    """The features of the action that led to each frame, [T, C]."""


class Judges(NamedTuple):
    """The predictions and the classifier that imagined frames are compared by, besides the real future."""

    motion: Tensor | None = None
    """The average motion of actions, for the prediction by shifting; None for data without actions."""
    inverse: PairNetwork | None = None
    """Reads actions from pairs of frames; None for data without named actions."""


def starts_of(clips: VideoClips, length: int, count: int) -> list[Part]:
    """Return at most `count` parts of `length` frames, spread evenly over all clips.

    Raises:
        NarrowsError: if all clips are shorter.
    """
    every = [
        int(begin) + at
        for begin, total in zip(clips.offsets, clips.lengths, strict=False)
        for at in range(int(total) - length + 1)
    ]
    if not every:
        raise NarrowsError(
            f"--imagine: all clips of this split are shorter than {length} frames, those given and those imagined: "
            "imagine fewer"
        )
    chosen = [every[index] for index in np.linspace(0, len(every) - 1, min(count, len(every))).round().astype(int)]
    parts = [slice(begin, begin + length) for begin in chosen]
    frames, features = ([torch.from_numpy(values[part]) for part in parts] for values in (clips.values, clips.features))
    return [Part(VideoClips.to_x(own), act) for own, act in zip(frames, features, strict=True)]


def sharpness(frames: Tensor) -> Tensor:
    """Return the variance of the Laplacian of the brightness of frames [N, 3, H, W], [N]; blur lowers it."""
    kernel = frames.new_tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
    return F.conv2d(frames.mean(1, keepdim=True), kernel).flatten(1).var(1)


@dataclass
class Foresight:
    """Figures by step, from the first imagined frame on.

    Attributes:
        streams: number of starts that frames were imagined after.
        steps: by figure, its mean at each step, [K] each; of `imagined_sharpness_ratio`, the sharpness relative to that
            of the reconstructed real future, the median, since a few frames decide the mean.
        spans: by figure, its value over the 5 steps up to a step.
    """

    streams: int
    steps: dict[str, list[float]] = field(default_factory=dict)
    spans: dict[str, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))

    def at(self, steps: Sequence[int]) -> dict[str, float]:
        """Return the figures at some steps, counted from 1, by their names and the step."""
        found = {f"{name}_{step}": values[step - 1] for name, values in self.steps.items() for step in steps}
        return found | {
            f"{name}_{step}": value for name, values in self.spans.items() for step, value in values.items()
        }


@torch.no_grad()
def foresee(
    model: Autoencoder,
    prior: Prior,
    starts: Sequence[Part],
    given: int,
    judges: Judges,
    ends: Sequence[int],
    sampling: Sampling,
    advance: Callable[[int], None] = lambda n: None,
) -> Foresight:
    """Imagine frames after starts in held-out clips, and compare them with the real ones.

    Args:
        model: the model of the codes, in evaluation mode.
        prior: its prior.
        starts: parts of held-out clips, of `given` + K frames each.
        given: number of given frames.
        judges: what else imagined frames are compared with.
        ends: the steps at which Fréchet distances over the last 5 steps are measured.
        sampling: how codes are drawn.
        advance: called with the number of frames imagined.
    """
    steps = len(starts[0].features) - given
    device = next(model.parameters()).device
    sums: dict[str, Tensor] = {}
    pairs: dict[str, list[Tensor]] = defaultdict(list)
    actions, ratios = [], []
    stream = Sampling(sampling.temperature, sampling.top_k, sampling.top_p, sampling.generator)
    for at in range(0, len(starts), AT_ONCE):
        x, features = map(torch.stack, zip(*starts[at : at + AT_ONCE], strict=True))
        codes = model.encode(x.to(device))
        made = model.decode(imagine_codes(prior, codes[:, :given], features, stream)).cpu()
        known = model.decode(codes).cpu()
        versions = {"imagined": made, "reconstructed": known, "repeated": x[:, :, given - 1 : given].expand_as(x)}
        if judges.motion is not None:
            moved = [
                shifted(own[:, given - 1], act[given:], judges.motion) for own, act in zip(x, features, strict=True)
            ]
            versions["shifted"] = torch.cat([x[:, :, :given], torch.stack(moved)], 2)
        for name, frames in versions.items():
            for figure, values in _errors(x[:, :, given:], frames[:, :, given:]).items():
                sums[f"{name}_{figure}"] = sums.get(f"{name}_{figure}", 0) + values
        sharp = {}
        for name, frames in {"imagined": made, "reconstructed": known, "real": x}.items():
            sharp[name] = sharpness(_by_frame(frames[:, :, given:])).view(len(x), steps)
            sums[f"{name}_sharpness"] = sums.get(f"{name}_sharpness", 0) + sharp[name].sum(0)
            pairs[name].append(_pairs(frames[:, :, given - 1 :]))
        ratios.append(sharp["imagined"].clamp(min=FLAT) / sharp["reconstructed"].clamp(min=FLAT))
        actions.append(features[:, given:])
        advance(len(x) * steps)
    found = Foresight(len(starts), {name: (total / len(starts)).tolist() for name, total in sums.items()})
    found.steps["imagined_sharpness_ratio"] = torch.cat(ratios).quantile(0.5, 0).tolist()
    if judges.inverse is not None:
        _read(
            found, judges.inverse, {name: torch.cat(parts) for name, parts in pairs.items()}, torch.cat(actions), ends
        )
    return found


def _read(
    found: Foresight, inverse: PairNetwork, pairs: Mapping[str, Tensor], actions: Tensor, ends: Sequence[int]
) -> None:
    """Add the share of actions that are read right at each step, and the Fréchet distances of pairs up to some."""
    known = actions.any(2)
    for name, own in pairs.items():
        read = torch.stack([read_actions(inverse, to_unit(step)) for step in own.unbind(1)], 1)
        right = ((read == actions.argmax(2)) & known).sum(0) / known.sum(0)
        found.steps[f"{name}_action_accuracy"] = right.tolist()
    for end in ends:
        part = slice(max(0, end - SPAN), end)
        for name, other in (("imagined", "reconstructed"), ("reconstructed", "real")):
            real, made = (_batches(pairs[each][:, part]) for each in (other, name))
            if pairs[name][:, part].shape[:2].numel() > inverse.num_features:
                found.spans[f"{name}_frechet"][end] = frechet_distance_of(inverse, real, made)


def _errors(x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Return PSNR and SSIM of clips [B, 3, K, H, W], summed over the clips, [K] each."""
    figures = pixel_errors(_by_frame(x), _by_frame(y))
    return {name: values.view(len(x), -1).sum(0) for name, values in figures.items() if name != "mse"}


def _by_frame(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(0, 1)


def _pairs(x: Tensor) -> Tensor:
    """Return the pairs of successive frames of clips [B, 3, K + 1, H, W] as levels, uint8 [B, K, 6, H, W]."""
    levels = to_uint8(x).transpose(1, 2)
    return torch.cat([levels[:, :-1], levels[:, 1:]], 2)


def _batches(pairs: Tensor) -> Iterator[Tensor]:
    for part in pairs.flatten(0, 1).split(BATCH_SIZE):
        yield to_unit(part)
