from typing import Any

import pytest
import torch
from torch import Tensor

from narrows.errors import NarrowsError
from narrows.networks.context import KERNEL, FrameContext
from narrows.priors import CodeSpec, Condition, FramePixelCNN, sample
from narrows.sampling import Sampling
from tests.priors.helpers import codes_of, condition_of, stepped

K = 5
Example = tuple[Tensor, Condition | None]


def build(grid: tuple[int, ...] = (5, 3, 4), codebooks: int = 1, channels: int = 0, **settings: Any) -> FramePixelCNN:
    """A small prior in double precision in which contexts and features matter."""
    torch.manual_seed(0)
    defaults = {"frames": 2, "context_width": 8, "blocks": 2, "layers": 2, "width": 16, "head_width": 32, "hidden": 0.0}
    prior = FramePixelCNN(CodeSpec(grid, codebooks, K, 0, channels), **{**defaults, **settings}).double()
    assert prior.network.local is not None
    torch.nn.init.normal_(prior.network.local.weight)
    if prior.context.condition is not None:
        torch.nn.init.normal_(prior.context.condition.weight)
    return prior


def changed_frames(prior: FramePixelCNN, one: Example, other: Example) -> list[bool]:
    """Whether the logits of each frame differ between two examples."""
    with torch.no_grad():
        difference = prior.logits(*one) - prior.logits(*other)
    return (difference.abs().flatten(2).amax((0, 2)) > 1e-12).tolist()


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_a_frame_depends_on_the_frames_before_it_and_on_no_later_one(frames: int) -> None:
    prior = build((6, 3, 4), frames=frames)
    codes = codes_of(prior, 1)
    for t in range(6):
        changed = codes.clone()
        changed[:, t] = (changed[:, t] + 1) % K
        assert changed_frames(prior, (codes, None), (changed, None)) == [t <= later <= t + frames for later in range(6)]


@pytest.mark.parametrize("by_frame", [True, False])
@pytest.mark.parametrize("frames", [1, 2])
def test_a_frame_depends_on_its_own_features_and_those_before_it(frames: int, by_frame: bool) -> None:
    prior = build((6, 3, 4), channels=2, frames=frames)
    codes, features = codes_of(prior, 1), Condition.of(condition_of(prior, 1, by_frame)).features
    assert features is not None
    for t in range(6):
        changed = features.clone()
        changed[:, :, t] += 1
        one, other = (codes, Condition(features=features)), (codes, Condition(features=changed))
        assert changed_frames(prior, one, other) == [t <= later <= t + frames for later in range(6)]


def test_the_frames_before_are_read_up_to_a_reach() -> None:
    """Rows of one position and blocks of dilation 1, 2 and 4."""
    torch.manual_seed(0)
    context = FrameContext(3, 32, frames=2, blocks=3, channels=0).double()
    assert context.reach == 8
    before = torch.randn(1, 3, 2, 1, 40, dtype=torch.double, requires_grad=True)
    context(before, None)[..., 20].sum().backward()
    assert before.grad is not None
    for frame, beyond in ((0, 1), (1, KERNEL[1] // 2)):  # a kernel of 3 in both frames, a wide one in the last
        reached = (before.grad[:, :, frame].abs().amax((0, 1, 2)) > 0).nonzero().flatten().tolist()
        assert reached == list(range(20 - 7 - beyond, 20 + 7 + beyond + 1))


def test_the_kernels_of_each_condition_move_the_last_frame_their_own_way() -> None:
    """With two one-hot conditions, the features are the frame before moved by 3 to the left or by 6 to the right."""
    context = FrameContext(1, 1, frames=1, blocks=1, channels=2)
    assert context.condition is not None
    for parameter in context.parameters():
        torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        context.placed.weight[:] = 1
        context.moves[0, 0, 2, 6 + 3] = context.moves[0, 1, 2, 6 - 6] = 1
        context.condition.weight[:2, :, 1, 0, 0] = torch.eye(2) - 1  # each condition keeps one of them
    frame = torch.rand(1, 1, 1, 3, 20)
    for condition, shift in enumerate((-3, 6)):
        features = torch.eye(2)[condition].expand(1, 2).view(1, 2, 1, 1, 1)
        found = context(frame, context.terms(features))[0, 0]
        inner = slice(6, -6)
        torch.testing.assert_close(found[:, inner], frame[0, 0, 0].roll(shift, 1)[:, inner])


@pytest.mark.parametrize(("codebooks", "channels"), [(1, 2), (2, 0)])
def test_a_window_that_keeps_the_frames_before_is_moved_exactly(codebooks: int, channels: int) -> None:
    whole, window = build((7, 3, 4), codebooks, channels), build((4, 3, 4), codebooks, channels)
    window.load_state_dict(whole.state_dict())
    codes, condition = codes_of(whole, 2), Condition.of(condition_of(whole, 2, by_frame=True))
    logits = whole.logits(codes, condition)
    for start in range(1, 4):
        part = slice(start, start + 4)
        features = None if condition.features is None else condition.features[:, :, part]
        moved = window.logits(codes[:, part], Condition(features=features))
        torch.testing.assert_close(moved[:, 2:], logits[:, part][:, 2:])


@pytest.mark.parametrize("n", [0, 1, 11, 12, 13, 24, 30, 59])
def test_steps_after_any_past_give_the_logits_of_the_parallel_pass(n: int) -> None:
    prior = build(channels=2)
    codes, condition = codes_of(prior, 2), condition_of(prior, 2, by_frame=True)
    expected = prior.logits(codes, condition).detach().view(2, prior.length, K)[:, n:]
    torch.testing.assert_close(stepped(prior, codes, condition, codes.flatten(1)[:, :n]), expected)


def test_imagined_frames_are_those_of_full_forwards_code_for_code() -> None:
    prior = build(channels=2).float().eval()
    past, condition = codes_of(prior, 3)[:, :2].flatten(1), condition_of(prior, 3, by_frame=True)
    drawn = sample(prior, 3, condition, Sampling(seed=4), past)
    uniforms = torch.rand(3, prior.length, generator=torch.Generator().manual_seed(4))
    codes = torch.zeros(3, prior.length, dtype=torch.long)
    codes[:, : past.shape[1]] = past
    for n in range(past.shape[1], prior.length):
        with torch.no_grad():
            logits = prior.logits(codes.view(3, *prior.grid), condition).view(3, -1, K)[:, n]
        cumulative = logits.double().softmax(-1).cumsum(-1)
        codes[:, n] = (uniforms[:, n : n + 1] > cumulative).sum(-1)
    assert torch.equal(drawn.flatten(1), codes)


def test_features_of_the_first_or_last_frames_are_hidden_in_a_share_of_the_examples_in_training() -> None:
    prior = build((4, 2, 2), channels=3, hidden=0.5)
    hidden = prior._partly_hidden(torch.ones(4000, 3, 4, 1, 1))
    assert (hidden == hidden[:, :1]).all()
    known, places = hidden[:, 0, :, 0, 0], torch.arange(4)
    first = [(known == (places >= count)).all(1).float().mean().item() for count in range(5)]
    last = [(known == (places < 4 - count)).all(1).float().mean().item() for count in range(1, 4)]
    assert sum(first) + sum(last) == pytest.approx(1)
    assert first == pytest.approx([0.5, *[0.0625] * 3, 0.125], abs=0.03)
    assert last == pytest.approx([0.0625] * 3, abs=0.03)
    codes, condition = codes_of(prior, 50), condition_of(prior, 50, by_frame=True)
    assert not torch.equal(prior.log_prob(codes, condition), prior.log_prob(codes, condition))
    prior.eval()
    assert torch.equal(prior.log_prob(codes, condition), prior.log_prob(codes, condition))


def test_random_codes_replace_a_share_of_those_of_earlier_frames_in_training() -> None:
    prior = build((3, 6, 6), noise=0.4)
    codes = torch.full((4000, 36), K)  # which no random code is
    replaced = (prior._partly_random(codes) != codes).float().mean(1)
    assert replaced.mean().item() == pytest.approx(0.2, abs=0.01)  # shares from 0 to 0.4, evenly
    assert replaced.std().item() == pytest.approx((0.4**2 / 12 + (0.2 - 0.4**2 / 3) / 36) ** 0.5, abs=0.01)
    codes = codes_of(prior, 6)
    noisy, plain = prior.logits(codes), prior.eval().logits(codes)
    torch.testing.assert_close(noisy[:, 0], plain[:, 0])  # has no earlier frame, and reads its own codes as they are
    assert not torch.allclose(noisy[:, 1:], plain[:, 1:])


def test_settings_that_make_no_prior_are_refused() -> None:
    with pytest.raises(NarrowsError, match=r"a grid \(frames, rows, columns\), got \(3, 4\): use GatedPixelCNN"):
        build((3, 4))
    for name, value in {
        "frames": 0,
        "blocks": 0,
        "context_width": 0,
        "layers": 0,
        "hidden": 1.0,
        "noise": 1.0,
        "dropout": -0.1,
    }.items():
        with pytest.raises(NarrowsError, match=name):
            build(**{name: value})
    for name in ("kernel_size", "first_kernel_size"):
        with pytest.raises(NarrowsError, match=f"^{name} must be odd"):
            build(**{name: 4})
