"""Continuing codes by a moving window: the known codes are kept, and the rest is drawn from the prior."""

import pytest
import torch
from torch import Tensor

from narrows.errors import NarrowsError
from narrows.priors import CodeSpec, Condition, FramePixelCNN, Prior, TransformerPrior, continue_codes, sample
from narrows.sampling import Sampling


def prior_of(window: int, codebooks: int = 1, classes: int = 0) -> TransformerPrior:
    torch.manual_seed(0)
    return TransformerPrior(CodeSpec((window,), codebooks, 7, classes), width=8, layers=1, heads=2).eval()


def frames_of(window: int) -> FramePixelCNN:
    torch.manual_seed(0)
    sizes = {"frames": 2, "context_width": 8, "blocks": 1, "layers": 1, "width": 8, "head_width": 8}
    prior = FramePixelCNN(CodeSpec((window, 2, 3), 1, 7, 0, channels=2), **sizes).eval()
    assert prior.network.local is not None
    assert prior.context.condition is not None
    torch.nn.init.normal_(prior.network.local.weight)
    torch.nn.init.normal_(prior.context.condition.weight)
    return prior


@pytest.mark.parametrize("codebooks", [1, 2])
@pytest.mark.parametrize(("known", "count"), [(1, 1), (3, 9), (20, 2), (6, 3), (0, 13)])
def test_known_codes_are_kept_and_as_many_follow_as_asked(codebooks: int, known: int, count: int) -> None:
    prior = prior_of(6, codebooks)
    codes = torch.randint(7, (3, known) if codebooks == 1 else (3, known, codebooks))
    done: list[int] = []
    found = continue_codes(prior, codes, count, sampling=Sampling(seed=1), progress=done.append)
    assert found.shape == (3, known + count, *codes.shape[2:])
    assert torch.equal(found[:, :known], codes)
    assert found.max() < 7
    assert done == sorted(done)
    assert done[-1] == count


def test_what_fits_the_window_is_one_draw_from_the_prior_given_its_past() -> None:
    prior, codes = prior_of(6, classes=2), torch.randint(7, (3, 10))
    labels = torch.tensor([0, 1, 1])
    found = continue_codes(prior, codes, 2, labels, Sampling(seed=1))
    assert torch.equal(found[:, 6:], sample(prior, 3, labels, Sampling(seed=1), codes[:, 6:]))


def test_windows_move_over_the_last_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 7 codes after 6, windows of 6 draw 3, 3 and the last one, each given what is before it."""
    pasts: list[Tensor] = []

    def recorded(
        prior: Prior, batch: int, given: Condition, sampling: Sampling, past: Tensor, positions: int, progress: object
    ) -> Tensor:
        pasts.append(past)
        return sample(prior, batch, given, sampling, past, positions)

    monkeypatch.setattr("narrows.priors.continuation.sample", recorded)
    found = continue_codes(prior_of(6), torch.randint(7, (2, 6)), 7, sampling=Sampling(seed=0))
    for past, part in zip(pasts, (slice(3, 6), slice(6, 9), slice(7, 12)), strict=True):
        assert torch.equal(past, found[:, part])


@pytest.mark.parametrize(("known", "count"), [(6, 1), (1, 3), (3, 10), (0, 5)])
def test_no_code_is_drawn_that_is_not_asked_for(known: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    prior = frames_of(16)
    steps: list[int] = []
    real = FramePixelCNN.step
    monkeypatch.setattr(FramePixelCNN, "step", lambda *parts: steps.append(1) or real(*parts))
    features = torch.zeros(1, 2, known + count, 1, 1)
    continue_codes(prior, torch.zeros(1, known, 2, 3, dtype=torch.long), count, Condition(features=features))
    assert len(steps) == count * 2 * 3


def test_later_windows_have_other_random_numbers() -> None:
    """A prior that says nothing draws the uniform numbers themselves."""
    prior = prior_of(6)
    for weight in prior.parameters():
        torch.nn.init.zeros_(weight)
    drawn = continue_codes(prior, torch.zeros(1, 6, dtype=torch.long), 12, sampling=Sampling(seed=0))[0, 6:]
    assert len({tuple(part) for part in drawn.view(4, 3).tolist()}) > 1


def test_priors_that_continue_nothing() -> None:
    with pytest.raises(NarrowsError, match=r"grid \[1\].*--window"):
        continue_codes(prior_of(1), torch.zeros(1, 3, dtype=torch.long), 2)
    rows = TransformerPrior(CodeSpec((1, 3), 1, 7, 0), width=8, layers=1, heads=2)
    with pytest.raises(NarrowsError, match=r"grid \[1, 3\]"):
        continue_codes(rows, torch.zeros(1, 2, 3, dtype=torch.long), 2)


def test_features_of_other_positions_are_refused() -> None:
    prior = frames_of(4)
    codes = torch.zeros(1, 2, 2, 3, dtype=torch.long)
    for shape in ((1, 2, 4, 1, 1), (1, 2, 5, 1)):
        with pytest.raises(NarrowsError, match=r"features must be those of all 5 positions, \[B, 2, 5, ...\]"):
            continue_codes(prior, codes, 3, Condition(features=torch.zeros(shape)))
    with pytest.raises(NarrowsError, match="features of each position: pass Condition"):
        continue_codes(prior, codes, 3)


@pytest.mark.parametrize(("known", "count"), [(0, 3), (1, 2), (5, 7)])
def test_frames_are_drawn_with_their_own_features(known: int, count: int) -> None:
    """The likeliest frames are those of one window over all, because the moved windows keep what the prior reads."""
    prior, whole = frames_of(4), frames_of(known + count)
    whole.load_state_dict(prior.state_dict())
    codes = torch.randint(7, (2, known, 2, 3))
    condition = Condition(features=torch.randn(2, 2, known + count, 1, 1))
    greedy = Sampling(top_k=1)
    found = continue_codes(prior, codes, count, condition, greedy)
    assert torch.equal(found, sample(whole, 2, condition, greedy, codes.flatten(1)))
