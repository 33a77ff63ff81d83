"""Music that lacks notes: how they are removed, how the encoder sees it, and how well they are restored."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from narrows.bottlenecks import Gaussian
from narrows.data import Batch, BatchPlan
from narrows.data.loader import uniforms
from narrows.likelihoods import Bernoulli
from narrows.modalities.music.damage import without_notes
from narrows.modalities.music.dataset import open_music
from narrows.modalities.music.midi import Clock, Notes, write_notes
from narrows.modalities.music.restoration import restoration
from narrows.modalities.music.restore import missing_notes
from narrows.modalities.music.roll import RollLayout
from narrows.modalities.music.rolls import Rolls
from narrows.modalities.music.settings import MusicSettings
from narrows.models import Autoencoder
from narrows.networks import RecurrentDecoder, RecurrentEncoder

LAYOUT = RollLayout(60, 63)
SHARE = 0.3


def roll_of(*notes: tuple[int, int, int], layout: RollLayout = LAYOUT) -> np.ndarray:
    return layout.to_roll(Notes(*np.array([(start, end, pitch, 80) for start, end, pitch in notes]).T))


def test_notes_are_removed_whole_and_the_rest_stays() -> None:
    roll = roll_of((0, 3, 60), (3, 5, 60), (1, 4, 62), (4, 6, 63))
    drawn = {0: 0.9, 1: 0.1, 2: 0.9, 3: 0.2}  # in order of start, then pitch
    left = without_notes(roll, LAYOUT, SHARE, lambda count: np.array([drawn[place] for place in range(count)]))
    expected = np.zeros_like(roll)
    kept = roll_of((0, 3, 60), (3, 5, 60))
    expected[: len(kept)] = kept
    np.testing.assert_array_equal(left, expected)


def test_a_note_from_before_the_window_gets_no_start() -> None:
    roll = roll_of((0, 8, 60), (5, 8, 62))[2:]
    np.testing.assert_array_equal(without_notes(roll, LAYOUT, SHARE, np.ones), roll)


def test_the_share_of_removed_notes() -> None:
    layout = RollLayout(0, 127, onsets=False)
    roll = np.zeros((100, 128), np.uint8)
    roll[::2] = 1
    left = without_notes(roll, layout, SHARE, partial(uniforms, seed=1, step=2, example=3))
    assert left.sum() / roll.sum() == pytest.approx(1 - SHARE, abs=4 * (SHARE * (1 - SHARE) / roll.sum()) ** 0.5)


def test_random_numbers_are_those_of_the_seed_the_step_and_the_example() -> None:
    found = {uniforms(3, *key).tobytes() for key in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]}
    assert len(found) == 4
    np.testing.assert_array_equal(uniforms(3, 1, 2, 3), uniforms(5, 1, 2, 3)[:3])


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    for name, lowest in (("ant", 60), ("bee", 62)):
        rows = [(t, t + 2, lowest + t // 2 % 5, 80) for t in range(0, 200, 2)]
        write_notes(tmp_path / f"{name}.mid", Notes(*np.array(rows).T), Clock(20.0))
    return tmp_path


def opened(folder: Path, removed: float = 0.0) -> Rolls:
    return open_music(MusicSettings(source=str(folder), window=8, rare=0, removed_notes=removed)).train


def test_training_windows_come_with_a_damaged_copy(songs: Path) -> None:
    plan = BatchPlan(8, seed=3)
    with opened(songs).batches(plan) as clean, opened(songs, SHARE).batches(plan) as damaged:
        for _ in range(3):
            whole, (*same, left) = next(clean), next(damaged)
            assert all(torch.equal(first, second) for first, second in zip(whole, same, strict=True))
            assert torch.equal(torch.minimum(left, whole[0]), left)
            assert 0 < left.sum() < whole[0].sum()
    halves = [BatchPlan(8, seed=3, rank=rank, processes=2) for rank in range(2)]
    rolls = opened(songs, SHARE)
    with rolls.batches(plan) as all_of, rolls.batches(halves[0]) as one, rolls.batches(halves[1]) as other:
        assert torch.equal(next(all_of)[-1], torch.cat([next(one)[-1], next(other)[-1]]))


def test_the_encoder_reads_the_damaged_window_and_the_decoder_gives_the_whole(songs: Path) -> None:
    rolls = opened(songs, SHARE)
    model = model_of(rolls)
    with rolls.batches(BatchPlan(4)) as loader:
        batch = rolls.batch(*next(loader))
    assert batch.damaged is not None
    posterior, evidence = model.evidence(batch, lambda posterior: posterior.draw(2))
    assert torch.equal(posterior.mode, model.posterior(batch.damaged, batch.mask).mode)
    assert not torch.equal(posterior.mode, model.posterior(batch.x, batch.mask).mode)
    assert torch.equal(evidence.x, batch.x)
    torch.manual_seed(0)
    _, damaged = model.evidence(Batch(batch.x, batch.mask, damaged=batch.x), lambda posterior: posterior.draw())
    torch.manual_seed(0)
    _, plain = model.evidence(Batch(batch.x, batch.mask), lambda posterior: posterior.draw())
    assert torch.equal(damaged.log_likelihood, plain.log_likelihood)


def model_of(rolls: Rolls) -> Autoencoder:
    from narrows.data import Spec

    return Autoencoder(
        Spec((rolls.layout.channels, 8), "music", variable=True, rate=20.0, details=rolls.layout.details),
        lambda inputs, outputs: RecurrentEncoder(inputs, outputs, window=8, hidden=4),
        Gaussian(channels=2),
        lambda latents, outputs, hop: RecurrentDecoder(latents, outputs, hidden=4, hop=hop),
        Bernoulli,
    )


def test_figures_of_restoration_are_those_of_sets(songs: Path) -> None:
    """A model that always plays one pitch: what it adds, and what of that was removed, is counted by hand."""
    rolls = opened(songs)
    model = model_of(rolls)
    pitch = 2
    with torch.no_grad():
        model.decoder.out.weight.zero_()
        model.decoder.out.bias.fill_(-9)
        model.decoder.out.bias[pitch] = 9
    found = restoration(model, rolls, SHARE)
    original, damaged, removed, added, right = set(), set(), set(), set(), set()
    for index in range(len(rolls)):
        roll = rolls.stored(index)
        left = without_notes(roll, rolls.layout, SHARE, partial(uniforms, seed=0, step=0, example=index))
        for step in range(len(roll)):
            for channel in range(rolls.layout.pitches):
                place = (index, step, channel)
                was, has, new = roll[step, channel] > 0, left[step, channel] > 0, channel == pitch
                original |= {place} if was else set()
                damaged |= {place} if has else set()
                removed |= {place} if was and not has else set()
                added |= {place} if new and not has else set()
    right = removed & added
    assert found["restored_recall"] == pytest.approx(len(right) / len(removed))
    assert found["restored_precision"] == pytest.approx(len(right) / len(added))
    whole = damaged | added
    assert found["restored_f1"] == pytest.approx(2 * len(whole & original) / (len(whole) + len(original)))
    assert found["damaged_f1"] == pytest.approx(2 * len(damaged) / (len(damaged) + len(original)))


def test_what_is_added_leaves_the_given_notes_as_they_are() -> None:
    given, made = roll_of((0, 4, 60)), roll_of((0, 2, 60), (2, 4, 60), (1, 3, 62))
    made = np.pad(made, [(0, len(given) - len(made)), (0, 0)])
    whole = LAYOUT.to_notes(given + missing_notes(given, made, LAYOUT))
    assert [part.tolist() for part in whole[:3]] == [[0, 1], [4, 3], [60, 62]]
