"""Figures of imagined frames: each is what a plain computation gives, and tells what it is meant to tell."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from narrows.errors import NarrowsError
from narrows.evaluation.units import unit_of
from narrows.modalities.video.actions import Actions
from narrows.modalities.video.average_motion import average_motion, motion_between, shifted
from narrows.modalities.video.clips import VideoClips
from narrows.modalities.video.evaluate import FILE, _coded, _judges, evaluate_imagination
from narrows.modalities.video.foresight import Judges, foresee, sharpness, starts_of
from narrows.modalities.video.future_bits import future_bits
from narrows.modalities.video.imagination import imagine_codes
from narrows.modalities.video.inverse_model import pairs_of, read_actions, train_inverse
from narrows.modalities.video.modality import MODALITY
from narrows.modalities.video.settings import VideoSettings
from narrows.pretrained import load
from narrows.priors import CodeSpec, Condition, Prior
from narrows.progress import hidden
from narrows.sampling import Sampling
from narrows.training.run import RunFolder


class Obedient(Prior):
    """The codes of a later frame are the number of its action, with probability 1/2, or any of four.

    Those of the earlier half of the window are zeros, most probably. It keeps the features that it is asked with.
    """

    def __init__(self, frames: int) -> None:
        super().__init__(CodeSpec((frames, 1, 2), 1, 4, 0, channels=4))
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.asked: list[Tensor] = []

    def logits(self, codes: Tensor, condition: Condition | Tensor | None = None) -> Tensor:
        features = Condition.of(condition).features
        assert features is not None
        self.asked.append(features[:, :, :, 0, 0].mT)
        by_frame = (0.5 * features + 0.125)[:, :, :, 0, 0].mT.log()
        by_frame[:, : self.grid[0] // 2] = torch.tensor([0.97, 0.01, 0.01, 0.01]).log()
        return by_frame[:, :, None, None, None].expand(*codes.shape, 1, 4)

    def begin(self, *_: Any) -> None:
        raise NotImplementedError

    def step(self, *_: Any) -> Tensor:
        raise NotImplementedError


def clips_of(frames: np.ndarray, actions: np.ndarray, lengths: list[int], names: int) -> VideoClips:
    """Clips of frames uint8 [total, H, W, 3], with the number of the action that led to each, [total]."""
    count = len(lengths)
    features = np.eye(names, dtype=np.float32)[actions]
    offsets = np.cumsum([0, *lengths])
    features[offsets[:-1]] = 0
    order = np.arange(count)
    return VideoClips(
        frames, offsets, list("abcdef"[:count]), -np.ones(count, int), [], 2, order, 0 * order, 1, features
    )


@pytest.fixture(scope="module")
def turning() -> VideoClips:
    """Clips of a random panorama in which actions 0 and 1 turn by 2 pixels to the left and to the right."""
    rng = np.random.default_rng(0)
    panorama = rng.integers(256, size=(24, 200, 3), dtype=np.uint8)
    lengths, frames, actions = [40, 30], [], []
    for length in lengths:
        at, own = 100, rng.integers(2, size=length)
        for index, action in enumerate(own):
            at += 0 if index == 0 else (-2 if action == 0 else 2)
            frames.append(panorama[:, at : at + 24])
        actions.append(own)
    return clips_of(np.stack(frames), np.concatenate(actions), lengths, 2)


def test_bits_are_those_of_the_future_under_true_other_and_unknown_actions() -> None:
    actions = torch.randint(4, (41,), generator=torch.Generator().manual_seed(0))
    clip = actions[:, None, None].expand(41, 1, 2), torch.eye(4)[actions]
    prior = Obedient(6)
    found = future_bits(prior, [clip, (clip[0][:3], clip[1][:3])])
    right, wrong = -np.log2(0.625), -np.log2(0.125)
    assert found["future_bits_per_code"] == pytest.approx(right)
    # Where 36 actions are exchanged, a quarter stays right by chance.
    assert found["future_bits_per_code_shuffled"] == pytest.approx((right + 3 * wrong) / 4, abs=0.4)
    assert found["future_bits_per_code_unknown"] == pytest.approx(2)
    own, shuffled, unknown = (torch.cat(prior.asked[kind::3]) for kind in range(3))
    assert torch.equal(own, torch.stack([clip[1][at : at + 6] for at in range(0, 36, 3)]))
    assert torch.equal(shuffled[:, :3], own[:, :3])
    assert not torch.equal(shuffled[:, 3:], own[:, 3:])
    assert torch.equal(shuffled[:, 3:].sum((0, 1)), own[:, 3:].sum((0, 1)))
    assert not unknown.any()
    with pytest.raises(NarrowsError, match="no clip has the 6 frames of the prior's window"):
        future_bits(Obedient(6), [(clip[0][:3], clip[1][:3])])


@pytest.mark.parametrize(("down", "right"), [(0, 0), (0, 5), (3, 0), (-2, -7), (4, 6)])
def test_motions_are_found_and_undone(down: int, right: int) -> None:
    picture = torch.rand(3, 60, 60, generator=torch.Generator().manual_seed(0))
    before, after = picture[:, 15:45, 15:45], picture[:, 15 - down : 45 - down, 15 - right : 45 - right]
    assert motion_between(before[None], after[None]).tolist() == [[down, right]]
    moved = shifted(before, torch.ones(2, 1), torch.tensor([[down / 2, right / 2]]).double())
    assert moved.shape == (3, 2, 30, 30)
    inner = slice(8, -8)
    torch.testing.assert_close(moved[:, 1, inner, inner], after[:, inner, inner])


def test_the_average_motion_is_the_mean_of_each_action() -> None:
    motions = torch.tensor([[0, 2], [0, 4], [1, -5], [3, -5]])
    found = average_motion(motions, torch.eye(3)[[0, 0, 1, 1]])
    torch.testing.assert_close(found, torch.tensor([[0.0, 3], [2, -5], [0, 0]]).double())


def test_sharpness_is_the_variance_of_the_laplacian_and_blur_lowers_it() -> None:
    x = torch.rand(4, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    grey = x.mean(1).double().numpy()
    around = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    laplacian = (around - 4 * grey[:, 1:-1, 1:-1]).reshape(4, -1)
    np.testing.assert_allclose(sharpness(x), laplacian.var(1, ddof=1), rtol=1e-5)
    blurred = torch.nn.functional.avg_pool2d(x, 3, 1, 1)
    assert (sharpness(blurred) < 0.3 * sharpness(x)).all()
    assert torch.equal(sharpness(torch.full((1, 3, 5, 5), 0.5)), torch.zeros(1))
    ramp = torch.linspace(0, 1, 9).expand(1, 3, 9, 9)
    assert sharpness(ramp).item() == pytest.approx(0, abs=1e-12)


def test_starts_are_parts_of_clips(turning: VideoClips) -> None:
    starts = starts_of(turning, 29, 10)
    assert len(starts) == 10  # of 12 in the first clip and 2 in the second
    frames = [VideoClips.to_x(torch.from_numpy(turning.stored(clip))) for clip in (0, 1)]
    every = [frames[0][:, at : at + 29] for at in range(12)] + [frames[1][:, at : at + 29] for at in range(2)]
    found = [next(index for index, x in enumerate(every) if torch.equal(x, start.x)) for start in starts]
    assert found == sorted(set(found))
    assert (found[0], found[-1]) == (0, 13)
    assert not starts[0].features[0].any()
    assert starts[0].features[1:].any(1).all()
    with pytest.raises(NarrowsError, match="all clips of this split are shorter than 41 frames"):
        starts_of(turning, 41, 10)


def test_the_inverse_model_reads_actions_from_pairs(turning: VideoClips) -> None:
    chosen = pairs_of(turning)
    assert sorted({*range(70)} - {*chosen.tolist()}) == [0, 40]
    network = train_inverse(turning, 60)
    x = VideoClips.to_x(torch.from_numpy(turning.values)).transpose(0, 1)
    read = read_actions(network, torch.cat([x[chosen - 1], x[chosen]], 1))
    assert (read.numpy() == turning.features[chosen].argmax(1)).mean() > 0.95


def test_figures_by_step_are_those_of_plain_computations(run: Path, recording: Path) -> None:
    model = load(run)
    assert model.prior is not None
    data = MODALITY.open(VideoSettings(str(recording), window=2), hidden, quiet=True, spec=model.spec)
    starts = starts_of(data.all, 8, 3)
    found = foresee(model, model.prior, starts, 3, Judges(), [], Sampling(seed=0))
    assert found.streams == 3
    repeated = [np.mean([_psnr(one.x[:, 3 + k], one.x[:, 2]) for one in starts]) for k in range(5)]
    np.testing.assert_allclose(found.steps["repeated_psnr"], repeated, rtol=1e-5)
    made = [model.reconstruct(one.x.unsqueeze(0))[0] for one in starts]
    known = [
        np.mean([_psnr(one.x[:, 3 + k], y[:, 3 + k]) for one, y in zip(starts, made, strict=True)]) for k in range(5)
    ]
    np.testing.assert_allclose(found.steps["reconstructed_psnr"], known, rtol=1e-5)
    blur = [np.mean([sharpness(y[None, :, 3 + k]).item() for y in made]) for k in range(5)]
    np.testing.assert_allclose(found.steps["reconstructed_sharpness"], blur, rtol=1e-4)
    x, features = torch.stack([one.x for one in starts]), torch.stack([one.features for one in starts])
    codes = imagine_codes(model.prior, model.encode(x)[:, :3], features, Sampling(seed=0))
    imagined = [model.decode(own.unsqueeze(0))[0] for own in codes]
    drawn, kept = (
        np.array([[sharpness(y[None, :, 3 + k]).item() for k in range(5)] for y in part]) for part in (imagined, made)
    )
    ratio = np.median(drawn / kept, 0)
    np.testing.assert_allclose(found.steps["imagined_sharpness_ratio"], ratio, rtol=1e-3)
    assert set(found.at([1, 5])) == {f"{name}_{step}" for name in found.steps for step in (1, 5)}


def test_a_prior_that_knows_the_future_is_read_as_well_as_reconstructions(turning: VideoClips) -> None:
    """Reconstructions stand for imagined frames; the accuracies are those of the inverse model on them."""
    network = train_inverse(turning, 60)
    starts = starts_of(turning, 20, 16)

    class Exact(torch.nn.Module):
        """Its codes are the frames themselves."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def encode(self, x: Tensor) -> Tensor:
            return x.movedim(1, -1)

        def decode(self, codes: Tensor) -> Tensor:
            return codes.movedim(-1, 1)

    def drawn(prior: object, codes: Tensor, features: Tensor, sampling: Sampling) -> Tensor:
        return torch.stack([start.x for start in starts]).movedim(1, -1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("narrows.modalities.video.foresight.imagine_codes", drawn)
        motion = torch.tensor([[0.0, 2], [0, -2]]).double()
        found = foresee(Exact(), None, starts, 4, Judges(motion, network), [16], Sampling(seed=0))  # type: ignore[arg-type]
    assert found.steps["imagined_action_accuracy"] == found.steps["real_action_accuracy"]
    assert np.mean(found.steps["real_action_accuracy"]) > 0.95
    assert found.spans["imagined_frechet"][16] == pytest.approx(0, abs=1e-4)
    assert found.steps["imagined_psnr"] == pytest.approx([100] * 16)
    # The shift of the panorama is known but for what comes into view.
    assert found.steps["shifted_psnr"][0] > found.steps["repeated_psnr"][0] + 3


def test_the_average_motions_are_those_of_the_training_clips(turning: VideoClips) -> None:
    """Turning to the left by action 0 moves the picture 2 pixels to the right."""
    data = SimpleNamespace(train=turning, actions=Actions(size=2))
    motion = _judges(data, hidden).motion  # type: ignore[arg-type]
    assert motion is not None
    np.testing.assert_allclose(motion, [[0, 2], [0, -2]], atol=1e-9)


def test_codes_of_a_clip_have_the_features_of_its_frames(run: Path, recording: Path) -> None:
    model = load(run)
    data = MODALITY.open(VideoSettings(str(recording), window=2), hidden, quiet=True, spec=model.spec)
    for index in range(len(data.all)):
        codes, features = _coded(model, data.all, index)
        (frames, expected) = next(data.all.taken(index).whole(1))
        assert torch.equal(features, expected[0])
        assert torch.equal(codes, model.encode(VideoClips.to_x(frames))[0])


def test_evaluate_writes_all_figures_by_step(run: Path, recording: Path) -> None:
    model = load(run)
    data = MODALITY.open(VideoSettings(str(recording), window=2), hidden, quiet=True, spec=model.spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("narrows.modalities.video.evaluate.TRAINING_STEPS", 2)
        patch.setattr("narrows.modalities.video.evaluate.GIVEN", 2)
        figures = evaluate_imagination(
            RunFolder(run), model, data, data.all, "all", 5, 0.5 if model.spec.channels else 0.0, hidden
        )
    content = json.loads((run / FILE).read_text())
    assert len(content["steps"]["imagined_psnr"]) == 5
    assert figures["imagined_psnr_5"] == content["steps"]["imagined_psnr"][4]
    assert all(unit_of(name, MODALITY.units) for name in figures)
    named = bool(model.spec.channels)
    assert ("imagined_action_accuracy_1" in figures) == named
    assert ("future_bits_per_code_shuffled" in figures) == named
    with pytest.raises(NarrowsError, match="leave --data out"):
        MODALITY.evaluate(RunFolder(run), model, data, data.all, "all", "other", hidden, imagine=5)


def _psnr(x: Tensor, y: Tensor) -> float:
    return -10 * (x - y).square().mean().log10().item()
